#include "cuda/table.cuh"

#include "cuda/table.hpp"

#include <array>

namespace plait::cuda {

std::span<CompiledKernel const> compiled_kernels() {
    static auto const rows = Table::each([]<class... K>() {
        return std::array{CompiledKernel{K::name, K::threads, static_cast<int>(sizeof(typename K::Shared)),
                                         dynamic_bytes<K>, reinterpret_cast<void const*>(&run<K>)}...};
    });
    return rows;
}

}  // namespace plait::cuda
