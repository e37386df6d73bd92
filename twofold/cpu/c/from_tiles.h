/* Back: in (WIDE², tiles, channels) to image, where tiles overlap their sum. Included for each matrix M (HIGH, WIDE), by which
   the function MATRIX multiplies. A thread has channels of its own, to whose sums no other adds. */

void NAME(from_, MATRIX)(const float *restrict in, float *restrict image, const Work *w) {
  const i64 c = w->channels, plane = w->n * w->down * w->right * c, area = w->height * w->width;
  const i64 step = share(w->n, c, 8 * AT_ONCE);
  #pragma omp parallel for schedule(static) collapse(2)
  for (i64 b = 0; b < w->n; b++)
  for (i64 first = 0; first < c; first += step) {
    const int count = least(c - first, step) / 8;
    if (w->add)
      for (i64 p = 0; p < area; p++) FOR(v, count) ((lanes *)(image + (b * area + p) * w->of + first))[v] = nothing[v];
    for (i64 row = 0; row < w->down; row++)
    for (i64 column = 0; column < w->right; column++) {
      const float *from = in + ((b * w->down + row) * w->right + column) * c + first;
      lanes half[HIGH][WIDE][AT_ONCE], whole[HIGH][AT_ONCE];
      FOR(j, WIDE) {
        lanes tile[WIDE][AT_ONCE];
        FOR(i, WIDE) {
          const lanes *there = (const lanes *)(from + (j * WIDE + i) * plane);
          FOR(v, count) tile[i][v] = there[v];
        }
        FOR(v, count) MATRIX(&tile[0][v], AT_ONCE, &half[0][j][v], WIDE * AT_ONCE);
      }
      FOR(i, HIGH) {
        const i64 y = pixel(row * w->step + i - w->edge, w->height, w->reflect);
        if (y < 0) continue;
        FOR(v, count) MATRIX(&half[i][0][v], AT_ONCE, &whole[0][v], AT_ONCE);
        FOR(j, HIGH) {
          const i64 x = pixel(column * w->step + j - w->edge, w->width, w->reflect);
          if (x < 0) continue;
          lanes *to = (lanes *)(image + ((b * w->height + y) * w->width + x) * w->of + first);
          if (w->add) FOR(v, count) to[v] += whole[j][v];
          else FOR(v, count) to[v] = whole[j][v];
        }
      }
    }
  }
}
