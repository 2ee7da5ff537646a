/* A stub GPU: two PluggableDevices of type "GPU" whose memory is the host's.
 *
 * TensorFlow loads the library named by TF_PLUGGABLE_DEVICE_LIBRARY_PATH when it is imported, so the rules of
 * setting up devices can be tested against the real runtime on a machine without a GPU. Only allocation and
 * copies work. Do not compute on it: the default Linux wheel would pick CUDA kernels and crash.
 *
 * Every stream is synchronous: when a callback returns, its work is done. Events are therefore always complete.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tensorflow/c/experimental/stream_executor/stream_executor.h"
#include "tensorflow/c/tf_status.h"

#define DEVICES 2
/* What each device says it has. Only what TensorFlow really asks for is allocated on the host. */
#define TOTAL_BYTES (64LL << 20)

struct SP_Stream_st {
  int unused;
};
struct SP_Event_st {
  int unused;
};
struct SP_Timer_st {
  uint64_t started;
  uint64_t stopped;
};

static int64_t bytes_in_use[DEVICES];

/* For the tests: what TensorFlow's allocator holds on a device, which tells growth from taking all at once. */
int64_t stub_bytes_in_use(int ordinal) { return bytes_in_use[ordinal]; }

static void ok(TF_Status* status) { TF_SetStatus(status, TF_OK, ""); }

static uint64_t now(void) {
  struct timespec t;
  timespec_get(&t, TIME_UTC);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Memory */

static void allocate(const SP_Device* device, uint64_t size, int64_t memory_space, SP_DeviceMemoryBase* memory) {
  (void)memory_space;
  memory->struct_size = SP_DEVICE_MEMORY_BASE_STRUCT_SIZE;
  memory->opaque = NULL;
  memory->size = 0;
  if (bytes_in_use[device->ordinal] + (int64_t)size > TOTAL_BYTES) return;
  memory->opaque = aligned_alloc(256, (size + 255) / 256 * 256);
  if (memory->opaque == NULL) return;
  memory->size = size;
  bytes_in_use[device->ordinal] += (int64_t)size;
}

static void deallocate(const SP_Device* device, SP_DeviceMemoryBase* memory) {
  bytes_in_use[device->ordinal] -= (int64_t)memory->size;
  free(memory->opaque);
  memory->opaque = NULL;
  memory->size = 0;
}

static void* host_allocate(const SP_Device* device, uint64_t size) {
  (void)device;
  return aligned_alloc(256, (size + 255) / 256 * 256);
}

static void host_deallocate(const SP_Device* device, void* memory) {
  (void)device;
  free(memory);
}

static TF_Bool allocator_stats(const SP_Device* device, SP_AllocatorStats* stats) {
  stats->struct_size = SP_ALLOCATORSTATS_STRUCT_SIZE;
  stats->bytes_in_use = bytes_in_use[device->ordinal];
  return 1;
}

static TF_Bool memory_usage(const SP_Device* device, int64_t* free_bytes, int64_t* total_bytes) {
  *total_bytes = TOTAL_BYTES;
  *free_bytes = TOTAL_BYTES - bytes_in_use[device->ordinal];
  return 1;
}

/* Streams, events and timers */

static void create_stream(const SP_Device* device, SP_Stream* stream, TF_Status* status) {
  (void)device;
  *stream = calloc(1, sizeof(**stream));
  ok(status);
}

static void destroy_stream(const SP_Device* device, SP_Stream stream) {
  (void)device;
  free(stream);
}

static void stream_dependency(const SP_Device* device, SP_Stream dependent, SP_Stream other, TF_Status* status) {
  (void)device, (void)dependent, (void)other;
  ok(status);
}

static void stream_status(const SP_Device* device, SP_Stream stream, TF_Status* status) {
  (void)device, (void)stream;
  ok(status);
}

static void create_event(const SP_Device* device, SP_Event* event, TF_Status* status) {
  (void)device;
  *event = calloc(1, sizeof(**event));
  ok(status);
}

static void destroy_event(const SP_Device* device, SP_Event event) {
  (void)device;
  free(event);
}

static SE_EventStatus event_status(const SP_Device* device, SP_Event event) {
  (void)device, (void)event;
  return SE_EVENT_COMPLETE;
}

static void record_event(const SP_Device* device, SP_Stream stream, SP_Event event, TF_Status* status) {
  (void)device, (void)stream, (void)event;
  ok(status);
}

static void block_for_event(const SP_Device* device, SP_Event event, TF_Status* status) {
  (void)device, (void)event;
  ok(status);
}

static void create_timer(const SP_Device* device, SP_Timer* timer, TF_Status* status) {
  (void)device;
  *timer = calloc(1, sizeof(**timer));
  ok(status);
}

static void destroy_timer(const SP_Device* device, SP_Timer timer) {
  (void)device;
  free(timer);
}

static void start_timer(const SP_Device* device, SP_Stream stream, SP_Timer timer, TF_Status* status) {
  (void)device, (void)stream;
  timer->started = now();
  ok(status);
}

static void stop_timer(const SP_Device* device, SP_Stream stream, SP_Timer timer, TF_Status* status) {
  (void)device, (void)stream;
  timer->stopped = now();
  ok(status);
}

static uint64_t nanoseconds(SP_Timer timer) { return timer->stopped - timer->started; }

/* Copies and fills */

static void copy_to_host(const SP_Device* device, void* to, const SP_DeviceMemoryBase* from, uint64_t size,
                         TF_Status* status) {
  (void)device;
  memcpy(to, from->opaque, size);
  ok(status);
}

static void copy_to_device(const SP_Device* device, SP_DeviceMemoryBase* to, const void* from, uint64_t size,
                           TF_Status* status) {
  (void)device;
  memcpy(to->opaque, from, size);
  ok(status);
}

static void copy_on_device(const SP_Device* device, SP_DeviceMemoryBase* to, const SP_DeviceMemoryBase* from,
                           uint64_t size, TF_Status* status) {
  (void)device;
  memmove(to->opaque, from->opaque, size);
  ok(status);
}

static void stream_to_host(const SP_Device* device, SP_Stream stream, void* to, const SP_DeviceMemoryBase* from,
                           uint64_t size, TF_Status* status) {
  (void)stream;
  copy_to_host(device, to, from, size, status);
}

static void stream_to_device(const SP_Device* device, SP_Stream stream, SP_DeviceMemoryBase* to, const void* from,
                             uint64_t size, TF_Status* status) {
  (void)stream;
  copy_to_device(device, to, from, size, status);
}

static void stream_on_device(const SP_Device* device, SP_Stream stream, SP_DeviceMemoryBase* to,
                             const SP_DeviceMemoryBase* from, uint64_t size, TF_Status* status) {
  (void)stream;
  copy_on_device(device, to, from, size, status);
}

static void fill_bytes(const SP_Device* device, SP_Stream stream, SP_DeviceMemoryBase* to, uint8_t pattern,
                       uint64_t size, TF_Status* status) {
  (void)device, (void)stream;
  memset(to->opaque, pattern, size);
  ok(status);
}

static void fill_zero(const SP_Device* device, SP_Stream stream, SP_DeviceMemoryBase* to, uint64_t size,
                      TF_Status* status) {
  fill_bytes(device, stream, to, 0, size, status);
}

static void fill_words(const SP_Device* device, SP_Stream stream, SP_DeviceMemoryBase* to, uint32_t pattern,
                       uint64_t size, TF_Status* status) {
  (void)device, (void)stream;
  for (uint64_t i = 0; i < size / 4; ++i) ((uint32_t*)to->opaque)[i] = pattern;
  ok(status);
}

static void block_until_done(const SP_Device* device, SP_Stream stream, TF_Status* status) {
  (void)device, (void)stream;
  ok(status);
}

static void synchronize(const SP_Device* device, TF_Status* status) {
  (void)device;
  ok(status);
}

static TF_Bool host_callback(const SP_Device* device, SP_Stream stream, SE_StatusCallbackFn callback, void* argument) {
  (void)device, (void)stream;
  TF_Status* status = TF_NewStatus();
  callback(argument, status);
  TF_Bool done = TF_GetCode(status) == TF_OK;
  TF_DeleteStatus(status);
  return done;
}

/* The platform */

static void get_device_count(const SP_Platform* platform, int* count, TF_Status* status) {
  (void)platform;
  *count = DEVICES;
  ok(status);
}

static void create_device(const SP_Platform* platform, SE_CreateDeviceParams* params, TF_Status* status) {
  (void)platform;
  params->device->struct_size = SP_DEVICE_STRUCT_SIZE;
  params->device->ordinal = params->ordinal;
  params->device->hardware_name = "Stub";
  params->device->device_vendor = "tape_magic tests";
  params->device->pci_bus_id = params->ordinal == 0 ? "0000:00:01.0" : "0000:00:02.0";
  ok(status);
}

static void destroy_device(const SP_Platform* platform, SP_Device* device) {
  (void)platform;
  device->device_handle = NULL;
}

static void create_device_fns(const SP_Platform* platform, SE_CreateDeviceFnsParams* params, TF_Status* status) {
  (void)platform;
  params->device_fns->struct_size = SP_DEVICE_FNS_STRUCT_SIZE;
  ok(status);
}

static void destroy_device_fns(const SP_Platform* platform, SP_DeviceFns* fns) { (void)platform, (void)fns; }

static void create_stream_executor(const SP_Platform* platform, SE_CreateStreamExecutorParams* params,
                                   TF_Status* status) {
  (void)platform;
  SP_StreamExecutor* e = params->stream_executor;
  e->struct_size = SP_STREAMEXECUTOR_STRUCT_SIZE;
  e->allocate = allocate;
  e->deallocate = deallocate;
  e->host_memory_allocate = host_allocate;
  e->host_memory_deallocate = host_deallocate;
  e->get_allocator_stats = allocator_stats;
  e->device_memory_usage = memory_usage;
  e->create_stream = create_stream;
  e->destroy_stream = destroy_stream;
  e->create_stream_dependency = stream_dependency;
  e->get_stream_status = stream_status;
  e->create_event = create_event;
  e->destroy_event = destroy_event;
  e->get_event_status = event_status;
  e->record_event = record_event;
  e->wait_for_event = record_event;
  e->create_timer = create_timer;
  e->destroy_timer = destroy_timer;
  e->start_timer = start_timer;
  e->stop_timer = stop_timer;
  e->memcpy_dtoh = stream_to_host;
  e->memcpy_htod = stream_to_device;
  e->memcpy_dtod = stream_on_device;
  e->sync_memcpy_dtoh = copy_to_host;
  e->sync_memcpy_htod = copy_to_device;
  e->sync_memcpy_dtod = copy_on_device;
  e->block_host_for_event = block_for_event;
  e->block_host_until_done = block_until_done;
  e->synchronize_all_activity = synchronize;
  e->mem_zero = fill_zero;
  e->memset = fill_bytes;
  e->memset32 = fill_words;
  e->host_callback = host_callback;
  ok(status);
}

static void destroy_stream_executor(const SP_Platform* platform, SP_StreamExecutor* executor) {
  (void)platform, (void)executor;
}

static void create_timer_fns(const SP_Platform* platform, SP_TimerFns* fns, TF_Status* status) {
  (void)platform;
  fns->struct_size = SP_TIMER_FNS_STRUCT_SIZE;
  fns->nanoseconds = nanoseconds;
  ok(status);
}

static void destroy_timer_fns(const SP_Platform* platform, SP_TimerFns* fns) { (void)platform, (void)fns; }

static void destroy_platform(SP_Platform* platform) { (void)platform; }

static void destroy_platform_fns(SP_PlatformFns* fns) { (void)fns; }

void SE_InitPlugin(SE_PlatformRegistrationParams* params, TF_Status* status) {
  params->major_version = SE_MAJOR;
  params->minor_version = SE_MINOR;
  params->patch_version = SE_PATCH;
  params->destroy_platform = destroy_platform;
  params->destroy_platform_fns = destroy_platform_fns;

  SP_Platform* platform = params->platform;
  platform->struct_size = SP_PLATFORM_STRUCT_SIZE;
  platform->name = "STUB";
  platform->type = "GPU";
  platform->use_bfc_allocator = 1;

  SP_PlatformFns* fns = params->platform_fns;
  fns->struct_size = SP_PLATFORM_FNS_STRUCT_SIZE;
  fns->get_device_count = get_device_count;
  fns->create_device = create_device;
  fns->destroy_device = destroy_device;
  fns->create_device_fns = create_device_fns;
  fns->destroy_device_fns = destroy_device_fns;
  fns->create_stream_executor = create_stream_executor;
  fns->destroy_stream_executor = destroy_stream_executor;
  fns->create_timer_fns = create_timer_fns;
  fns->destroy_timer_fns = destroy_timer_fns;
  ok(status);
}
