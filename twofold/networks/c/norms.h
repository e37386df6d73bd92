/* Instance norm, a ReLU after it, and the gradients of one and of both, of images of a TYPE for which this is included.
   Mean and scale are (n, channels), in float32. */

#ifndef NORMS
#define NORMS

/* Pixels that are read twice while they are in the nearest cache; and vectors whose sums are in registers. */
enum { CHUNK = 64, NEAR = 4 };

/* Each image's channels, some vectors of them at a time, from channel `first` on. */
#define ALL_CHANNELS \
  const i64 c = w->channels, area = w->height * w->width, step = share(w->n, c, 8, 8 * AT_ONCE); \
  _Pragma("omp parallel for schedule(static) collapse(2)") \
  for (i64 b = 0; b < w->n; b++) for (i64 first = 0; first < c; first += step)
#define CHUNKS for (i64 from = 0; from < area; from += CHUNK)
#define PIXELS for (i64 p = from; p < least(from + CHUNK, area); p++)

/* Do it for NEAR vectors at a time, from number v on, and then one by one: `wide` must be known to the compiler. */
#define BY_VECTORS(...) \
  for (i64 count = least(c - first, step) / 8, v = 0; v < count;) { \
    if (count - v >= NEAR) { enum { wide = NEAR }; __VA_ARGS__ v += wide; } \
    else { enum { wide = 1 }; __VA_ARGS__ v += wide; } \
  }
#define EACH _Pragma("GCC unroll 4") for (int i = 0; i < wide; i++)
#define AT(x) ((x) + (b * area + p) * c + first + 8 * (v + i))
#define GET(x) NAME(get_, TYPE)(AT(x))
#define PUT(x, value) NAME(put_, TYPE)(AT(x), value)
#define OF(x) (((lanes *)((x) + b * c + first))[v + i])

INLINE lanes root(lanes x) {
  FOR(i, 8) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

static inline lanes above(lanes x, lanes value) { return (lanes)((x > nothing[0]) & (bits)value); }

/* A ReLU in place. As integers, numbers below zero are those up to that of minus infinity; not a number may follow. */
typedef int16_t shorts __attribute__((vector_size(16), aligned(2), may_alias));
void rectified_bf16(shorts *image, const Work *w) {
  const i64 count = w->n * w->height * w->width * w->channels / 8;
  #pragma omp parallel for schedule(static)
  for (i64 at = 0; at < count; at++) image[at] &= image[at] > (int16_t)0xff80;
}

#endif

/* Means and squared distances of each chunk, then of all so far (Chan et al. 1979, equation 2.1). */
void NAME(normed_, TYPE)(TYPE *in, TYPE *out, float *mean, float *scale, const Work *w, float eps) {
  ALL_CHANNELS {
    BY_VECTORS(EACH OF(mean) = OF(scale) = nothing[0];)
    CHUNKS {
      const float more = least(CHUNK, area - from), weight = more / (from + more);
      BY_VECTORS(
        lanes average[wide], off[wide];
        EACH average[i] = off[i] = nothing[0];
        PIXELS EACH average[i] += GET(in);
        EACH average[i] /= more;
        PIXELS EACH { const lanes x = GET(in) - average[i]; off[i] += x * x; }
        EACH {
          const lanes apart = average[i] - OF(mean);
          OF(mean) += apart * weight;
          OF(scale) += off[i] + apart * apart * (from * weight);
        }
      )
    }
    BY_VECTORS(EACH OF(scale) = 1.0f / root(OF(scale) / (float)area + eps);)
    CHUNKS BY_VECTORS(
      lanes average[wide], factor[wide];
      EACH average[i] = OF(mean), factor[i] = OF(scale);
      PIXELS EACH PUT(out, (GET(in) - average[i]) * factor[i]);
    )
  }
}

INLINE void NAME(back_, TYPE)(
    TYPE *gradient, TYPE *in, float *mean, float *scale, TYPE *out, const Work *w, const int rectified) {
  ALL_CHANNELS {
    lanes sums[AT_ONCE] = {{0}}, products[AT_ONCE] = {{0}};
    CHUNKS BY_VECTORS(
      lanes average[wide], sum[wide], product[wide];
      EACH average[i] = OF(mean), sum[i] = product[i] = nothing[0];
      PIXELS EACH {
        const lanes off = GET(in) - average[i], g = rectified ? above(off, GET(gradient)) : GET(gradient);
        sum[i] += g;
        product[i] += g * off;
      }
      EACH sums[v + i] += sum[i], products[v + i] += product[i];
    )
    CHUNKS BY_VECTORS(
      lanes average[wide], even[wide], along[wide], factor[wide];
      EACH {
        average[i] = OF(mean);
        factor[i] = OF(scale);
        even[i] = sums[v + i] / (float)area;
        along[i] = factor[i] * factor[i] * products[v + i] / (float)area;
      }
      PIXELS EACH {
        const lanes off = GET(in) - average[i], g = rectified ? above(off, GET(gradient)) : GET(gradient);
        PUT(out, factor[i] * (g - even[i] - along[i] * off));
      }
    )
  }
}

void NAME(normed_back_, TYPE)(TYPE *gradient, TYPE *in, float *mean, float *scale, TYPE *out, const Work *w) {
  NAME(back_, TYPE)(gradient, in, mean, scale, out, w, 0);
}

/* Through the ReLU after the norm as well: it is open where an image is above its mean. */
void NAME(rectified_back_, TYPE)(TYPE *gradient, TYPE *in, float *mean, float *scale, TYPE *out, const Work *w) {
  NAME(back_, TYPE)(gradient, in, mean, scale, out, w, 1);
}
