/* The gradient of a convolution's filter, of images in bf16, by AMX: a tile is 16 rows of 64 bytes, and the processor multiplies two.

   For each row of taps it is a product: what the small side holds, a column for each channel, times the `wide` numbers that each
   of its pixels met there, which lie side by side in the large one. AMX takes the left side's rows along the pixels and of the
   right side two pixels side by side; so both are packed, by 32 pixels and 32 columns. */

#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>

enum {
  TILE = 16 * 32,
  AT_HAND = 8,      /* steps of 32 pixels whose right side is in the nearest cache while all of the left goes by */
  LEFT = 1 << 17,   /* numbers of the left side that the next cache holds beside all else */
  LEAST = 512       /* pixels of it, else the sums' way to memory and back takes as long as the products */
};

/* Images (n, height, width, c), padded, were convolved to (n, h, w, m). See native.Numbers. */
typedef struct {
  i64 n, h, w, m;
  i64 height, width, c;
  i64 kernel, stride;
} Filter;

typedef int32_t pairs __attribute__((vector_size(64)));

INLINE __mmask32 first_of(i64 count) { return count >= 32 ? ~0u : count <= 0 ? 0 : (1u << count) - 1; }

/* Two rows of 32 numbers as pairs, of the first 16 and of the last. */
INLINE void paired(__m512i above, __m512i below, void *first, void *last) {
  const __m512i low = _mm512_set_epi16(
    47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  _mm512_store_si512(first, _mm512_permutex2var_epi16(above, low, below));
  _mm512_store_si512(last, _mm512_permutex2var_epi16(above, high, below));
}

/* 16 by 16 pairs, transposed: blocks of 1, 2, 4 and 8 change places with those across. */
INLINE void transposed(pairs *rows) {
  _Pragma("GCC unroll 4")
  for (int step = 1; step < 16; step *= 2) {
    pairs upper, lower;
    FOR(j, 16) upper[j] = j & step ? 16 + j - step : j, lower[j] = j & step ? 16 + j : j + step;
    _Pragma("GCC unroll 16")
    FOR(i, 16) if (!(i & step)) {
      const pairs a = rows[i], b = rows[i + step];
      rows[i] = __builtin_shuffle(a, b, upper);
      rows[i + step] = __builtin_shuffle(a, b, lower);
    }
  }
}

/* 32 channels of 32 pixels, or what there is of them, as two tiles whose rows are channels. */
static void pack_left(const bf16 *small, i64 channels, i64 apart, i64 pixels, bf16 *to) {
  const __mmask32 some = first_of(channels);
  pairs rows[2][16];
  FOR(r, 16) {
    const __m512i above = _mm512_maskz_loadu_epi16(2 * r < pixels ? some : 0, small + 2 * r * apart);
    const __m512i below = _mm512_maskz_loadu_epi16(2 * r + 1 < pixels ? some : 0, small + (2 * r + 1) * apart);
    paired(above, below, rows[0] + r, rows[1] + r);
  }
  FOR(half, 2) {
    transposed(rows[half]);
    FOR(r, 16) ((pairs *)(to + half * TILE))[r] = rows[half][r];
  }
}

/* 32 columns of the pixels at those places, as two tiles for every 32 of them. */
static void pack_right(const bf16 *large, const int32_t *places, i64 pixels, i64 columns, bf16 *to) {
  const __mmask32 some = first_of(columns);
  for (i64 p = 0; p < (pixels + 31) / 32 * 32; p += 2) {
    bf16 *const tile = to + p / 32 * 2 * TILE + p % 32 * 16;
    const __m512i above = p < pixels ? _mm512_maskz_loadu_epi16(some, large + places[p]) : _mm512_setzero_si512();
    const __m512i below = p + 1 < pixels ? _mm512_maskz_loadu_epi16(some, large + places[p + 1]) : _mm512_setzero_si512();
    paired(above, below, tile, tile + TILE);
  }
}

/* The sums of 32 by 32 products, four tiles, of so many steps; or more of them. */
static void multiplied(const bf16 *left, const bf16 *right, i64 steps, float *sums, int add) {
  if (add) {
    _tile_loadd(0, sums, 64); _tile_loadd(1, sums + 256, 64); _tile_loadd(2, sums + 512, 64); _tile_loadd(3, sums + 768, 64);
  } else {
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
  }
  for (i64 step = 0; step < steps; step++, left += 2 * TILE, right += 2 * TILE) {
    _tile_loadd(4, left, 64); _tile_loadd(5, left + TILE, 64);
    _tile_loadd(6, right, 64); _tile_loadd(7, right + TILE, 64);
    _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, 64); _tile_stored(1, sums + 256, 64); _tile_stored(2, sums + 512, 64); _tile_stored(3, sums + 768, 64);
}

/* From four tiles to where they belong, past the caches. */
static void put_sums(const float *sums, float *made, i64 rows, i64 columns, i64 apart) {
  for (i64 r = 0; r < rows; r++) FOR(half, 2) {
    const __mmask16 some = first_of(columns - 16 * half);
    float *const to = made + r * apart + 16 * half;
    const __m512 value = _mm512_load_ps(sums + 512 * (r / 16) + 256 * half + r % 16 * 16);
    if (some == 0xffff && (uintptr_t)to % 64 == 0) _mm512_stream_ps(to, value);
    else _mm512_mask_storeu_ps(to, some, value);
  }
}

/* made (m, kernel, kernel, c). Room for the left side and the sums, m and columns in 32s, and for a place for each pixel. */
void filter_gradient(
    const bf16 *small, const bf16 *large, float *made, bf16 *left, float *sums, int32_t *places, const Filter *f) {
  const i64 pixels = f->n * f->h * f->w, wide = f->kernel * f->c, groups = (f->m + 31) / 32, columns = (wide + 31) / 32;
  const i64 fits = LEFT / (32 * groups) / 32 * 32, block = fits > LEAST ? fits : LEAST;
  static const struct { uint8_t palette, start, zeros[14]; uint16_t bytes[16]; uint8_t rows[16]; } shapes =
    {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  i64 p = 0;
  FOR(b, f->n) FOR(y, f->h) FOR(x, f->w) places[p++] = ((b * f->height + y * f->stride) * f->width + x * f->stride) * f->c;
  #pragma omp parallel
  {
    bf16 right[AT_HAND * 2 * TILE] __attribute__((aligned(64)));
    float near[groups * 1024] __attribute__((aligned(64)));  /* in place of `sums`, where all pixels are one block */
    _tile_loadconfig(&shapes);
    for (i64 first = 0; first < pixels; first += block) {
      const i64 count = least(block, pixels - first), steps = (count + 31) / 32;
      #pragma omp for schedule(static)
      for (i64 at = 0; at < groups * steps; at++) {
        const i64 channel = at / steps * 32, pixel = at % steps * 32;
        pack_left(small + (first + pixel) * f->m + channel, f->m - channel, f->m, count - pixel, left + at * 2 * TILE);
      }
      /* Read as they lie, lines of memory come sooner than one of each pixel by another. */
      const bf16 *end = large + places[first + count - 1] + ((f->kernel - 1) * f->width + f->kernel) * f->c;
      for (const bf16 *line = large + places[first]; line < end; line += 32) _mm_prefetch((const char *)line, _MM_HINT_T1);
      #pragma omp for schedule(static)
      for (i64 at = 0; at < f->kernel * columns; at++) {
        const i64 tap = at / columns, column = at % columns * 32;
        float *const mine = pixels > block ? sums + at * groups * 1024 : near;
        for (i64 step = 0; step < steps; step += AT_HAND) {
          const i64 some = least(AT_HAND, steps - step), pixel = 32 * step;
          pack_right(large + tap * f->width * f->c + column, places + first + pixel, least(32 * some, count - pixel), wide - column, right);
          FOR(g, groups) multiplied(left + (g * steps + step) * 2 * TILE, right, some, mine + g * 1024, first + step > 0);
        }
        if (first + count == pixels) FOR(g, groups) {
          float *const to = made + (32 * g * f->kernel + tap) * wide + column;
          put_sums(mine + g * 1024, to, least(32, f->m - 32 * g), wide - column, f->kernel * wide);
        }
      }
    }
    _mm_sfence();
    _tile_release();
  }
}

/* Linux gives a process its tiles when it asks for them. */
int tiles_allowed(void) { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0; }
#else
int tiles_allowed(void) { return 0; }
#endif
