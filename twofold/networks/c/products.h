/* Matrix products in which one side is of few rows, the other large and read once: x of m rows, w or y of n columns in sixteens. */

typedef struct {
  i64 m, k, n, add;
} Product;

enum {
  ROWS = 6,        /* of a register tile, two vectors wide */
  TERMS = 8,       /* of w's rows that are gone along together: they may lie where a cache has room for eight */
  COLUMNS = 1024,  /* gone along at once: by shorter pieces, each line is fetched from memory on its own */
  OF_X = 4,        /* of a tile of scalar products, the rows */
  OF_W = 3
};

#define UNROLLED _Pragma("GCC unroll 8")

/* A tile of c, (count, 16), is or grows by a (count, terms) times b (terms, 16); a's rows lie `am` apart, its terms `ak`. */
INLINE void tile_of(const int count, const float *a, i64 am, i64 ak, const float *b, i64 bk, float *c, i64 cm, i64 terms, i64 add) {
  lanes sums[ROWS][2];
  UNROLLED FOR(i, count) UNROLLED FOR(j, 2) sums[i][j] = add ? ((lanes *)(c + i * cm))[j] : nothing[0];
  for (i64 t = 0; t < terms; t++) {
    const lanes u = *(const lanes *)(b + t * bk), v = *(const lanes *)(b + t * bk + 8);
    UNROLLED FOR(i, count) {
      sums[i][0] += a[i * am + t * ak] * u;
      sums[i][1] += a[i * am + t * ak] * v;
    }
  }
  UNROLLED FOR(i, count) UNROLLED FOR(j, 2) ((lanes *)(c + i * cm))[j] = sums[i][j];
}

static void tile(i64 rows, const float *a, i64 am, i64 ak, const float *b, i64 bk, float *c, i64 cm, i64 terms, i64 add) {
  switch (rows) {
    case 1: tile_of(1, a, am, ak, b, bk, c, cm, terms, add); break;
    case 2: tile_of(2, a, am, ak, b, bk, c, cm, terms, add); break;
    case 3: tile_of(3, a, am, ak, b, bk, c, cm, terms, add); break;
    case 4: tile_of(4, a, am, ak, b, bk, c, cm, terms, add); break;
    case 5: tile_of(5, a, am, ak, b, bk, c, cm, terms, add); break;
    default: tile_of(ROWS, a, am, ak, b, bk, c, cm, terms, add);
  }
}

/* Columns of 16, one below the other: (m, columns) of something n wide from or to (columns / 16, m, 16). */
INLINE void piled(float *wide, i64 n, float *pile, i64 m, i64 columns, const int back) {
  for (i64 i = 0; i < m; i++)
    for (i64 c = 0; c < columns; c += 16) FOR(j, 2) {
      lanes *there = (lanes *)(wide + i * n + c) + j, *here = (lanes *)(pile + c * m + i * 16) + j;
      if (back) *there = *here;
      else *here = *there;
    }
}

/* out (m, n) = x (m, k) w (k, n). */
void few_rows(const float *x, const float *w, float *out, const Product *p) {
  const i64 m = p->m, k = p->k, n = p->n, step = share(1, n, 16, COLUMNS);
  #pragma omp parallel for schedule(static)
  for (i64 at = 0; at < n; at += step) {
    const i64 columns = least(step, n - at);
    float sums[m * step];
    if (p->add) piled(out + at, n, sums, m, columns, 0);
    for (i64 t = 0; t < k; t += TERMS)
      for (i64 c = 0; c < columns; c += 16)
        for (i64 i = 0; i < m; i += ROWS)
          tile(m - i, x + i * k + t, k, 1, w + t * n + at + c, n, sums + c * m + i * 16, 16, least(TERMS, k - t), p->add || t);
    piled(out + at, n, sums, m, columns, 1);
  }
}

/* out (m, n) = x (k, m) transposed, y (k, n), of few k. */
void few_terms(const float *x, const float *y, float *out, const Product *p) {
  const i64 m = p->m, k = p->k, n = p->n, step = share(1, n, 16, COLUMNS);
  #pragma omp parallel for schedule(static)
  for (i64 at = 0; at < n; at += step) {
    const i64 columns = least(step, n - at);
    float pile[k * step];
    piled((float *)y + at, n, pile, k, columns, 0);
    for (i64 i = 0; i < m; i += ROWS)
      for (i64 c = 0; c < columns; c += 16)
        tile(m - i, x + i, 1, m, pile + c * k, 16, out + i * n + at + c, n, k, p->add);
  }
}

INLINE float total(lanes x) {
  float sum = 0;
  FOR(i, 8) sum += x[i];
  return sum;
}

/* Scalar products of some rows of x and others of w, added to out. */
INLINE void dots_of(const int some, const int others, const float *x, const float *w, i64 k, float *out, i64 n, i64 terms) {
  lanes sums[OF_X][OF_W] = {0};
  for (i64 t = 0; t < terms; t += 8)
    UNROLLED FOR(i, some) UNROLLED FOR(j, others)
      sums[i][j] += *(const lanes *)(x + i * COLUMNS + t) * *(const lanes *)(w + j * k + t);
  UNROLLED FOR(i, some) UNROLLED FOR(j, others) out[i * n + j] += total(sums[i][j]);
}

/* out (m, n) = x (m, k) times w (n, k) transposed, k in eights. */
void few_rows_transposed(const float *x, const float *w, float *out, const Product *p) {
  const i64 m = p->m, k = p->k, n = p->n, step = share(1, n, OF_W, n);
  #pragma omp parallel for schedule(static)
  for (i64 first = 0; first < n; first += step) {
    const i64 end = least(n, first + step);
    float near[m * COLUMNS]; /* some of x's columns */
    for (i64 i = 0; i < m; i++)
      for (i64 j = first; j < end; j++) out[i * n + j] = p->add ? out[i * n + j] : 0;
    for (i64 t = 0; t < k; t += COLUMNS) {
      const i64 terms = least(COLUMNS, k - t);
      for (i64 i = 0; i < m; i++)
        for (i64 j = 0; j < terms; j++) near[i * COLUMNS + j] = x[i * k + t + j];
      for (i64 j = first; j < end; j += OF_W)
        for (i64 i = 0; i < m; i += OF_X) {
          const i64 some = least(OF_X, m - i), others = least(OF_W, end - j);
          const float *u = near + i * COLUMNS, *v = w + j * k + t;
          float *to = out + i * n + j;
          if (some == OF_X && others == OF_W) dots_of(OF_X, OF_W, u, v, k, to, n, terms);
          else if (others == OF_W) FOR(r, some) dots_of(1, OF_W, u + r * COLUMNS, v, k, to + r * n, n, terms);
          else FOR(r, some) FOR(s, others) dots_of(1, 1, u + r * COLUMNS, v + s * k, k, to + r * n + s, n, terms);
        }
    }
  }
}
