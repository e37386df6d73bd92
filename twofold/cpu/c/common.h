/* What the kernels share. Images are channels-last: (n, height, width, channels), with a multiple of eight channels. */

#include <stdint.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int64_t i64;
typedef uint16_t bf16;

/* Vectors of a place in a tile that are handled together: long runs, for each place lies far from the next. */
enum { AT_ONCE = 32 };

static const lanes nothing[AT_ONCE];

/* The images, the grid of their tiles, whether tiles overlap and add up, and the channels of the whole image of which these
   are some. See native.Numbers. */
typedef struct {
  i64 n, height, width, channels;
  i64 step, edge, reflect, down, right;
  i64 add, of;
} Work;

#define PASTE(a, b) a##b
#define NAME(a, b) PASTE(a, b)
#define INLINE static inline __attribute__((always_inline))
#define FOR(i, count) for (int i = 0; i < (count); i++)

static inline i64 least(i64 a, i64 b) { return a < b ? a : b; }

/* Channels of one of n images that a thread takes at once: a multiple of 8, no more than `most`, and some for each thread. */
extern int omp_get_max_threads(void);
static inline i64 share(i64 n, i64 channels, i64 most) {
  const i64 parts = (omp_get_max_threads() + n - 1) / n, some = (channels + parts - 1) / parts;
  return least((some + 7) / 8 * 8, most);
}

/* The pixel of a side that stands at a place of a tile, or -1 for zeros. */
static inline i64 pixel(i64 at, i64 side, i64 reflect) {
  if (at >= 0 && at < side) return at;
  if (!reflect || at < -1 || at > side) return -1;
  return at < 0 ? 1 : side - 2;
}
