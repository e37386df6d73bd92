/* The transpose of M t Mᵀ of every tile t: image to out (HIGH², tiles, channels). Included for each matrix M (HIGH, WIDE), by
   which the function MATRIX multiplies. */

void NAME(to_, MATRIX)(const float *restrict image, float *restrict out, const Work *w) {
  const i64 c = w->channels, plane = w->n * w->down * w->right * c;
  #pragma omp parallel for schedule(static) collapse(3)
  for (i64 b = 0; b < w->n; b++)
  for (i64 row = 0; row < w->down; row++)
  for (i64 column = 0; column < w->right; column++) {
    const float *at[WIDE][WIDE];
    FOR(i, WIDE) FOR(j, WIDE) {
      const i64 y = pixel(row * w->step + i - w->edge, w->height, w->reflect);
      const i64 x = pixel(column * w->step + j - w->edge, w->width, w->reflect);
      at[i][j] = y < 0 || x < 0 ? 0 : image + ((b * w->height + y) * w->width + x) * c;
    }
    float *to = out + ((b * w->down + row) * w->right + column) * c;
    for (i64 first = 0; first < c; first += 8 * AT_ONCE) {
      const int count = least(c - first, 8 * AT_ONCE) / 8;
      lanes half[HIGH][WIDE][AT_ONCE], whole[HIGH][AT_ONCE];
      FOR(j, WIDE) {
        lanes tile[WIDE][AT_ONCE];
        FOR(i, WIDE) {
          const lanes *from = at[i][j] ? (const lanes *)(at[i][j] + first) : nothing;
          FOR(v, count) tile[i][v] = from[v];
        }
        FOR(v, count) MATRIX(&tile[0][v], AT_ONCE, &half[0][j][v], WIDE * AT_ONCE);
      }
      FOR(i, HIGH) {
        FOR(v, count) MATRIX(&half[i][0][v], AT_ONCE, &whole[0][v], AT_ONCE);
        FOR(j, HIGH) {
          lanes *there = (lanes *)(to + (j * HIGH + i) * plane + first);
          FOR(v, count) there[v] = whole[j][v];
        }
      }
    }
  }
}
