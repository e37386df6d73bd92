/* Instance norm of bf16 images and its gradient, computed in float32. Mean and scale are (n, channels), in float32. */

typedef uint16_t halves __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint32_t words __attribute__((vector_size(32)));

#ifdef __AVX2__ /* for which compilers before GCC 13 convert vectors in twice as many instructions */
static inline words widened(const bf16 *x) { return (words)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x)); }
static inline halves narrowed(words x) {
  const __m256i twice = _mm256_packus_epi32((__m256i)x, (__m256i)x);
  return (halves)_mm256_castsi256_si128(_mm256_permute4x64_epi64(twice, 0x08));
}
#else
static inline words widened(const bf16 *x) { return __builtin_convertvector(*(const halves *)x, words); }
static inline halves narrowed(words x) { return __builtin_convertvector(x, halves); }
#endif

/* Rounded to the nearest, ties to the even one; NaN stays NaN. The processor that rounds by itself takes what is under 1e-38 for
   zero. */
static inline lanes get(const bf16 *x) { return (lanes)(widened(x) << 16); }
#ifdef __AVX512BF16__
static inline void put(bf16 *x, lanes value) { *(halves *)x = (halves)_mm256_cvtneps_pbh((__m256)value); }
#else
static inline void put(bf16 *x, lanes value) {
  const words whole = (words)value;
  *(halves *)x = narrowed((whole + 0x7fff + ((whole >> 16) & 1)) >> 16);
}
#endif

/* Pixels that are read twice while they are in the nearest cache; and vectors whose sums are in registers. */
enum { CHUNK = 64, NEAR = 4 };

/* Each image's channels, some vectors of them at a time, from channel `first` on. */
#define ALL_CHANNELS \
  const i64 c = w->channels, area = w->height * w->width, step = share(w->n, c, 8 * AT_ONCE); \
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
#define OF(x) (((lanes *)((x) + b * c + first))[v + i])

INLINE lanes root(lanes x) { FOR(i, 8) x[i] = __builtin_sqrtf(x[i]); return x; }

/* Means and squared distances of each chunk, then of all so far (Chan et al. 1979, equation 2.1). */
void normed(bf16 *in, bf16 *out, float *mean, float *scale, const Work *w, float eps) {
  ALL_CHANNELS {
    BY_VECTORS(EACH OF(mean) = OF(scale) = nothing[0];)
    CHUNKS {
      const float more = least(CHUNK, area - from), weight = more / (from + more);
      BY_VECTORS(
        lanes average[wide], off[wide];
        EACH average[i] = off[i] = nothing[0];
        PIXELS EACH average[i] += get(AT(in));
        EACH average[i] /= more;
        PIXELS EACH { const lanes x = get(AT(in)) - average[i]; off[i] += x * x; }
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
      PIXELS EACH put(AT(out), (get(AT(in)) - average[i]) * factor[i]);
    )
  }
}

void normed_back(bf16 *gradient, bf16 *in, float *mean, float *scale, bf16 *out, const Work *w) {
  ALL_CHANNELS {
    lanes sums[AT_ONCE] = {{0}}, products[AT_ONCE] = {{0}};
    CHUNKS BY_VECTORS(
      lanes average[wide], sum[wide], product[wide];
      EACH average[i] = OF(mean), sum[i] = product[i] = nothing[0];
      PIXELS EACH {
        const lanes g = get(AT(gradient));
        sum[i] += g;
        product[i] += g * (get(AT(in)) - average[i]);
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
      PIXELS EACH put(AT(out), factor[i] * (get(AT(gradient)) - even[i] - along[i] * (get(AT(in)) - average[i])));
    )
  }
}
