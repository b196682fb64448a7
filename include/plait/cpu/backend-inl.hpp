#pragma once

#include "plait/cpu/backend.hpp"

#ifdef PLAIT_HEADER_ONLY
#include "plait/cpu/table-inl.hpp"
#endif

// GCC compiles part of a file for another instruction set; Clang's pragma does not reach lambdas.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(PLAIT_HEADER_ONLY)
#define PLAIT_CPU_VARIANTS 1
#else
#define PLAIT_CPU_VARIANTS 0
#endif

namespace plait::cpu {

#ifndef PLAIT_HEADER_ONLY
namespace base {
KernelTable kernels();
}
#endif
#if PLAIT_CPU_VARIANTS
namespace avx2 {
KernelTable kernels();
}
namespace avx512 {
KernelTable kernels();
}
#endif

PLAIT_INLINE std::string_view name_of(Isa isa) {
    constexpr std::string_view names[] = {"base", "avx2", "avx512"};
    return names[static_cast<std::size_t>(isa)];
}

PLAIT_INLINE Isa best_isa() {
#if PLAIT_CPU_VARIANTS
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return Isa::avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
    return Isa::base;
}

PLAIT_INLINE KernelTable kernels(Isa isa) {
    check(isa <= best_isa(), "the CPU kernels for {} cannot run here: this build and processor go up to {}",
          name_of(isa), name_of(best_isa()));
#if PLAIT_CPU_VARIANTS
    if (isa == Isa::avx512) return avx512::kernels();
    if (isa == Isa::avx2) return avx2::kernels();
#endif
    return base::kernels();
}

PLAIT_INLINE void unsupported(KernelCall const& call, DType dtype) {
    fail("{}: the CPU has no kernel for {}: cast it to a dtype that the op's description names",
         call.op->text(), plait::name_of(dtype));
}

PLAIT_INLINE void outside_table(KernelCall const& call, std::int64_t token, std::int64_t vocab) {
    fail("{}: token {} lies outside the table of {} rows", call.op->name(), token, vocab);
}

}  // namespace plait::cpu
