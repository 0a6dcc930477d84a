// The part of CUDA's runtime that Polygraphy and plugin_autogen/engine call, on the host: a stream is always done.
#include <stdlib.h>
#include <string.h>
#include <time.h>

int cudaMalloc(void** p, size_t n) { return (*p = malloc(n ? n : 1)) ? 0 : 2; }
int cudaFree(void* p) { free(p); return 0; }
int cudaMemcpy(void* d, void const* s, size_t n, int kind) { memcpy(d, s, n); return 0; }
int cudaMemcpyAsync(void* d, void const* s, size_t n, int kind, void* stream) { memcpy(d, s, n); return 0; }
int cudaStreamCreate(void** s) { *s = malloc(1); return 0; }
int cudaStreamDestroy(void* s) { free(s); return 0; }
int cudaStreamSynchronize(void* s) { return 0; }
int cudaStreamBeginCapture(void* s, int mode) { return mode == 1 ? 0 : 1; }
int cudaStreamEndCapture(void* s, void** graph) { *graph = malloc(1); return 0; }
int cudaGraphInstantiateWithFlags(void** e, void* graph, unsigned long long flags) { *e = malloc(1); return graph ? 0 : 1; }
int cudaGraphDestroy(void* graph) { free(graph); return 0; }
int cudaGraphLaunch(void* e, void* s) { return e ? 0 : 1; }
int cudaEventCreate(void** e) { return cudaMalloc(e, sizeof(struct timespec)); }
int cudaEventDestroy(void* e) { free(e); return 0; }
int cudaEventRecord(void* e, void* s) { return clock_gettime(CLOCK_MONOTONIC, (struct timespec*)e); }
int cudaEventSynchronize(void* e) { return 0; }
int cudaEventElapsedTime(float* ms, void* a, void* b) {
  struct timespec *x = a, *y = b;
  *ms = (y->tv_sec - x->tv_sec) * 1e3f + (y->tv_nsec - x->tv_nsec) * 1e-6f;
  return 0;
}
