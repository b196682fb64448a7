#pragma once

#include "plait/core/inline.hpp"
#include "plait/exec/kernel.hpp"

#include <cstdint>
#include <string_view>

namespace plait::cpu {

/// Instruction sets that the kernels are compiled for. `base` is the compiler's own target.
enum class Isa : std::uint8_t { base, avx2, avx512 };
std::string_view name_of(Isa isa);

/// The best one that this processor has and this build holds.
Isa best_isa();
/// The table op → kernel. The bits of results depend on `isa`. Throws Error where the build or processor
/// lacks it.
KernelTable kernels(Isa isa = best_isa());

/// What kernels say of bad calls; apart from them, so that no formatting code is compiled for one instruction
/// set.
[[noreturn]] void unsupported(KernelCall const& call, DType dtype);
[[noreturn]] void outside_table(KernelCall const& call, std::int64_t token, std::int64_t vocab);

}  // namespace plait::cpu

#ifdef PLAIT_HEADER_ONLY
#include "plait/cpu/backend-inl.hpp"
#endif
