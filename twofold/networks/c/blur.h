/* Images of a TYPE at half the size, smoothed by (1, 2, 1)² / 16 around every other pixel, edges mirrored; and the gradient of
   that, from the half to the whole. `w` has the size of the whole. */

#ifndef BLUR
#define BLUR

static const float line[3] = {0.25f, 0.5f, 0.25f};

/* The pixels of the half that see pixel `at` of the whole, and how much; how many. */
static inline int seen_by(i64 at, i64 side, i64 *from, float *weights) {
  int count = 0;
  for (i64 half = at / 2; half <= (at + 1) / 2 && 2 * half < side; half++) {
    weights[count] = 0;
    FOR(i, 3) if (pixel(2 * half - 1 + i, side, 1) == at) weights[count] += line[i];
    from[count++] = half;
  }
  return count;
}

#endif

void NAME(halved_, TYPE)(const TYPE *in, TYPE *out, const Work *w) {
  const i64 c = w->channels, high = (w->height + 1) / 2, wide = (w->width + 1) / 2;
  #pragma omp parallel for schedule(static) collapse(2)
  for (i64 b = 0; b < w->n; b++)
  for (i64 y = 0; y < high; y++)
  for (i64 x = 0; x < wide; x++) {
    const TYPE *from[3][3];
    FOR(i, 3) FOR(j, 3) {
      const i64 row = pixel(2 * y - 1 + i, w->height, 1), column = pixel(2 * x - 1 + j, w->width, 1);
      from[i][j] = in + ((b * w->height + row) * w->width + column) * c;
    }
    for (i64 at = 0; at < c; at += 8) {
      lanes sum = {0};
      FOR(i, 3) FOR(j, 3) sum += line[i] * line[j] * NAME(get_, TYPE)(from[i][j] + at);
      NAME(put_, TYPE)(out + ((b * high + y) * wide + x) * c + at, sum);
    }
  }
}

void NAME(halved_back_, TYPE)(const TYPE *gradient, TYPE *out, const Work *w) {
  const i64 c = w->channels, high = (w->height + 1) / 2, wide = (w->width + 1) / 2;
  #pragma omp parallel for schedule(static) collapse(2)
  for (i64 b = 0; b < w->n; b++)
  for (i64 y = 0; y < w->height; y++) {
    i64 rows[2], columns[2];
    float down[2], right[2];
    const int count = seen_by(y, w->height, rows, down);
    for (i64 x = 0; x < w->width; x++) {
      const int across = seen_by(x, w->width, columns, right);
      for (i64 at = 0; at < c; at += 8) {
        lanes sum = {0};
        FOR(i, count) FOR(j, across)
          sum += down[i] * right[j] * NAME(get_, TYPE)(gradient + ((b * high + rows[i]) * wide + columns[j]) * c + at);
        NAME(put_, TYPE)(out + ((b * w->height + y) * w->width + x) * c + at, sum);
      }
    }
  }
}
