/* What the kernels share. Images are channels-last: (n, height, width, channels), channels in eights. */

#include <stdint.h>

typedef float lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t bits __attribute__((vector_size(32), aligned(4), may_alias));
typedef int64_t i64;

/* Vectors of a place in a tile that are handled together: long runs, for each place lies far from the next. */
enum { AT_ONCE = 32 };

static const lanes nothing[AT_ONCE];

/* The images, and the grid of their tiles; whether tiles overlap and add up. Twin of native.Work. */
typedef struct {
  i64 n, height, width, channels;
  i64 step, edge, reflect, down, right;
  i64 add;
} Work;

#define PASTE(a, b) a##b
#define NAME(a, b) PASTE(a, b)
#define FOR(i, count) for (int i = 0; i < (count); i++)

static inline i64 least(i64 a, i64 b) { return a < b ? a : b; }

/* Vectors of n images' channels for a thread to take at once: as many as can be, but something for each. */
extern int omp_get_max_threads(void);
static inline i64 share(i64 n, i64 channels) {
  const i64 parts = (omp_get_max_threads() + n - 1) / n;
  return least(AT_ONCE, (channels / 8 + parts - 1) / parts);
}

/* The pixel of a side that stands at a place of a tile's, or -1 for zeros. */
static inline i64 pixel(i64 at, i64 side, i64 reflect) {
  if (at >= 0 && at < side) return at;
  if (!reflect || at < -1 || at > side) return -1;
  return at < 0 ? 1 : side - 2;
}
