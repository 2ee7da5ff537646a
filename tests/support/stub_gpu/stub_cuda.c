/* A stub of NVIDIA's libraries: what TensorFlow and the doctor ask of a driver, of NVML and of CUDA's runtime.
 *
 * The same library under another name stands for any of CUDA's own, which only have to load.
 *
 * Answers are chosen when it is compiled (CUDA, INIT, CRASH) or by the environment of the process that asks:
 *   STUB_CUDA_INIT   what cuInit returns
 *   STUB_CUDA_BREAKS the function in which the process breaks, or the file of the library that breaks as it loads
 *   STUB_CUDA_HOW    how: abort, segv, exit, or hang, which makes the file STUB_CUDA_HUNG
 *   STUB_CUDA_MENDED the file that stands for a mended driver once it is there: nothing breaks then
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef CUDA
#define CUDA 12080 /* 1000 * major + 10 * minor */
#endif
#ifndef INIT
#define INIT 0
#endif

#define MEMORY (4ull << 30)

static const char* variable(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

static void enter(const char* function) {
  if (strcmp(variable("STUB_CUDA_BREAKS"), function) != 0) return;
  if (access(variable("STUB_CUDA_MENDED"), F_OK) == 0) return;
  const char* how = variable("STUB_CUDA_HOW");
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "segv") == 0) raise(SIGSEGV);
  if (strcmp(how, "exit") == 0) _exit(3);
  FILE* hung = fopen(variable("STUB_CUDA_HUNG"), "w");
  if (hung) fclose(hung);
  for (;;) pause();
}

/* The driver. */

int cuDriverGetVersion(int* version) {
  enter("cuDriverGetVersion");
  *version = CUDA;
  return 0;
}

int cuInit(unsigned flags) {
  (void)flags;
  enter("cuInit");
  const char* chosen = variable("STUB_CUDA_INIT");
  if (*chosen) return atoi(chosen);
  /* as CUDA: no device is chosen by a list that begins with one that is not there */
  const char* devices = getenv("CUDA_VISIBLE_DEVICES");
  if (devices && *devices != '0') return 100;
  return INIT;
}

int cuGetErrorName(int status, const char** name) {
  *name = status == 0     ? "CUDA_SUCCESS"
          : status == 100 ? "CUDA_ERROR_NO_DEVICE"
          : status == 999 ? "CUDA_ERROR_UNKNOWN"
                          : NULL;
  return *name ? 0 : 1;
}

int cuGetErrorString(int status, const char** text) {
  *text = "a status of the stub";
  return status < 0;
}

int cuDeviceGetCount(int* count) {
  enter("cuDeviceGetCount");
  *count = 1;
  return 0;
}

int cuDeviceGet(int* device, int ordinal) {
  enter("cuDeviceGet");
  *device = ordinal;
  return 0;
}

int cuDeviceGetName(char* name, int length, int device) {
  enter("cuDeviceGetName");
  snprintf(name, (size_t)length, "STUB of 4 GiB, %d", device);
  return 0;
}

int cuDeviceGetPCIBusId(char* place, int length, int device) {
  enter("cuDeviceGetPCIBusId");
  snprintf(place, (size_t)length, "0000:%02x:00.0", device + 1);
  return 0;
}

int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  (void)device;
  enter("cuDeviceTotalMem");
  *bytes = MEMORY;
  return 0;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  (void)device;
  enter("cuDeviceGetAttribute");
  switch (attribute) {
    case 16: *value = 10; break; /* multiprocessors */
    case 75: *value = 8; break;  /* compute capability, major */
    case 76: *value = 0; break;  /* and minor */
    default: *value = 1024;
  }
  return 0;
}

/* NVML. */

static int handle;

int nvmlInit_v2(void) {
  enter("nvmlInit");
  return 0;
}

int nvmlInit(void) { return nvmlInit_v2(); }

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  return nvmlInit_v2();
}

int nvmlShutdown(void) {
  enter("nvmlShutdown");
  return 0;
}

int nvmlDeviceGetCount_v2(unsigned* count) {
  enter("nvmlDeviceGetCount");
  *count = 1;
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** found) {
  enter("nvmlDeviceGetHandleByIndex");
  *found = &handle;
  return index != 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char* place, void** found) {
  *found = &handle;
  return place == NULL;
}

/* CUDA's runtime, with which TensorFlow's kernels are registered when it is imported. */

void** __cudaRegisterFatBinary(void* binary) {
  static void* registered;
  registered = binary;
  return &registered;
}

void __cudaRegisterFatBinaryEnd(void** registered) { (void)registered; }

void __cudaUnregisterFatBinary(void** registered) { (void)registered; }

void __cudaRegisterFunction(void** registered, const char* host, char* device, const char* name, int limit,
                            void* tid, void* bid, void* block, void* grid, int* size) {
  (void)registered, (void)host, (void)device, (void)name, (void)limit;
  (void)tid, (void)bid, (void)block, (void)grid, (void)size;
}

void __cudaRegisterVar(void** registered, char* host, char* device, const char* name, int external, size_t size,
                       int constant, int global) {
  (void)registered, (void)host, (void)device, (void)name, (void)external, (void)size, (void)constant, (void)global;
}

int cudaRuntimeGetVersion(int* version) {
  *version = 12050;
  return 0;
}

int cudaDriverGetVersion(int* version) { return cuDriverGetVersion(version); }

int cudaGetLastError(void) { return 0; }

size_t cudnnGetVersion(void) { return 90300; }

__attribute__((constructor)) static void load(void) {
#ifdef CRASH
  abort();
#endif
  Dl_info here;
  if (dladdr((void*)&load, &here) && here.dli_fname) {
    const char* file = strrchr(here.dli_fname, '/');
    enter(file ? file + 1 : here.dli_fname);
  }
}
