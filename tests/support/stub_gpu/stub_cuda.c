/* A stub of NVIDIA's libraries: what the doctor asks of a driver, with answers chosen when it is compiled.
 *
 * The same library under another name stands for any of CUDA's own, which only have to load.
 */
#include <stdlib.h>

#ifndef CUDA
#define CUDA 12080 /* 1000 * major + 10 * minor */
#endif
#ifndef INIT
#define INIT 0
#endif

int cuDriverGetVersion(int* version) {
  *version = CUDA;
  return 0;
}

int cuInit(unsigned flags) {
  (void)flags;
  return INIT;
}

#ifdef CRASH
__attribute__((constructor)) static void crash(void) { abort(); }
#endif
