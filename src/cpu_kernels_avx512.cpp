#include "cpu_kernels.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false for masked intrinsics in GCC 12
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#define PLAIT_CPU_TARGET avx512
#define PLAIT_VECTOR_BYTES 64
#include "plait/cpu/table-inl.hpp"
#endif
