/* Instance norm, its gradient, and that of a ReLU after it. Mean and scale are (n, channels). */

/* Pixels whose sum is taken first, for it rounds less. */
enum { CHUNK = 64 };

/* Each image's channels, some vectors of them at a time: of these, what is at a pixel p, or of the image. */
#define ALL_CHANNELS \
  const i64 c = w->channels, area = w->height * w->width, step = 8 * share(w->n, c); \
  _Pragma("omp parallel for schedule(static) collapse(2)") \
  for (i64 b = 0; b < w->n; b++) for (i64 first = 0; first < c; first += step)
#define COUNT (least(c - first, step) / 8)
#define EACH FOR(v, count)
#define AT(x) ((lanes *)((x) + (b * area + p) * c + first))
#define OF(x) ((lanes *)((x) + b * c + first))

static inline __attribute__((always_inline)) lanes root(lanes x) {
  FOR(i, 8) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

void normed(float *in, float *out, float *mean, float *scale, const Work *w, float eps) {
  ALL_CHANNELS {
    const int count = COUNT;
    lanes average[AT_ONCE] = {{0}}, variance[AT_ONCE] = {{0}};
    for (i64 from = 0; from < area; from += CHUNK) {
      lanes sum[AT_ONCE] = {{0}};
      for (i64 p = from; p < least(from + CHUNK, area); p++) EACH sum[v] += AT(in)[v];
      EACH average[v] += sum[v];
    }
    EACH average[v] /= (float)area;
    for (i64 from = 0; from < area; from += CHUNK) {
      lanes sum[AT_ONCE] = {{0}};
      for (i64 p = from; p < least(from + CHUNK, area); p++) EACH {
        const lanes off = AT(in)[v] - average[v];
        sum[v] += off * off;
      }
      EACH variance[v] += sum[v];
    }
    EACH variance[v] = 1.0f / root(variance[v] / (float)area + eps);
    EACH OF(mean)[v] = average[v], OF(scale)[v] = variance[v];
    for (i64 p = 0; p < area; p++) EACH AT(out)[v] = (AT(in)[v] - average[v]) * variance[v];
  }
}

void normed_back(float *gradient, float *in, float *mean, float *scale, float *out, const Work *w) {
  ALL_CHANNELS {
    const int count = COUNT;
    lanes average[AT_ONCE], along[AT_ONCE] = {{0}}, of_gradient[AT_ONCE] = {{0}}, factor[AT_ONCE];
    EACH average[v] = OF(mean)[v], factor[v] = OF(scale)[v];
    for (i64 from = 0; from < area; from += CHUNK) {
      lanes sum[AT_ONCE] = {{0}}, product[AT_ONCE] = {{0}};
      for (i64 p = from; p < least(from + CHUNK, area); p++) EACH {
        sum[v] += AT(gradient)[v];
        product[v] += AT(gradient)[v] * (AT(in)[v] - average[v]);
      }
      EACH of_gradient[v] += sum[v], along[v] += product[v];
    }
    EACH of_gradient[v] /= (float)area, along[v] *= factor[v] * factor[v] / (float)area;
    for (i64 p = 0; p < area; p++)
      EACH AT(out)[v] = factor[v] * (AT(gradient)[v] - of_gradient[v] - along[v] * (AT(in)[v] - average[v]));
  }
}

void rectified_back(float *gradient, float *in, float *mean, float *out, const Work *w) {
  ALL_CHANNELS {
    const int count = COUNT;
    lanes average[AT_ONCE];
    EACH average[v] = OF(mean)[v];
    for (i64 p = 0; p < area; p++)
      EACH AT(out)[v] = (lanes)((AT(in)[v] > average[v]) & *(bits *)&AT(gradient)[v]);
  }
}
