/* What the kernels share. Images are channels-last: (n, height, width, channels), channels in eights. */

#include <stdint.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(32), aligned(4), may_alias));
typedef int64_t i64;

/* What images are made of: float32, or bf16, the upper half of one. Values are worked with in float32. */
typedef float f32;
typedef uint16_t bf16;
typedef uint16_t halves __attribute__((vector_size(16), aligned(2), may_alias));
typedef uint32_t words __attribute__((vector_size(32)));

static inline lanes get_f32(const f32 *x) { return *(const lanes *)x; }
static inline void put_f32(f32 *x, lanes value) { *(lanes *)x = value; }
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

/* Rounded to the nearest, ties to the even one. Not a number, as processors make it, stays so. The processor that rounds by
   itself takes what is under 1e-38 for zero. */
static inline lanes get_bf16(const bf16 *x) { return (lanes)(widened(x) << 16); }
#ifdef __AVX512BF16__
static inline void put_bf16(bf16 *x, lanes value) { *(halves *)x = (halves)_mm256_cvtneps_pbh((__m256)value); }
#else
static inline void put_bf16(bf16 *x, lanes value) {
  const words whole = (words)value;
  *(halves *)x = narrowed((whole + 0x7fff + ((whole >> 16) & 1)) >> 16);
}
#endif

/* Vectors of a place in a tile that are handled together: long runs, for each place lies far from the next. */
enum { AT_ONCE = 32 };

static const lanes nothing[AT_ONCE];

/* The images, and the grid of their tiles, which take a pixel and leave `stride` - 1; whether tiles overlap and add up, and the
   channels of the whole image of which these are some. Twin of native.Work. */
typedef struct {
  i64 n, height, width, channels;
  i64 step, edge, reflect, down, right, stride;
  i64 add, of;
} Work;

#define PASTE(a, b) a##b
#define NAME(a, b) PASTE(a, b)
#define INLINE static inline __attribute__((always_inline))
#define FOR(i, count) for (int i = 0; i < (count); i++)

static inline i64 least(i64 a, i64 b) { return a < b ? a : b; }

/* Of the columns, or channels, of each of n, those for a thread to take at once: in `unit`s and at most so many, but something
   for each thread. */
extern int omp_get_max_threads(void);
static inline i64 share(i64 n, i64 columns, i64 unit, i64 most) {
  const i64 parts = (omp_get_max_threads() + n - 1) / n, some = (columns + parts - 1) / parts;
  return least((some + unit - 1) / unit * unit, most);
}

/* The pixel of a side that stands at a place of a tile's, or -1 for zeros. */
static inline i64 pixel(i64 at, i64 side, i64 reflect) {
  if (at >= 0 && at < side) return at;
  if (!reflect || at < -1 || at > side) return -1;
  return at < 0 ? 1 : side - 2;
}
