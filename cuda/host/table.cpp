#include "cuda/table.cuh"

#include "cuda/host/machine.hpp"

#include <array>

namespace plait::cuda {
namespace {

struct HostKernel {
    char const* name;
    void (*run)(void const* arguments, std::int64_t blocks, Order order);
};

constexpr auto kernels = Table::each([]<class... K>() {
    return std::array{HostKernel{K::name, [](void const* arguments, std::int64_t blocks, Order order) {
                                     launch(*static_cast<K const*>(arguments), blocks, order);
                                 }}...};
});

}  // namespace

void run_on_host(int kernel, void const* arguments, std::int64_t blocks, Order order) {
    kernels.at(static_cast<std::size_t>(kernel)).run(arguments, blocks, order);
}

char const* kernel_name(int kernel) { return kernels.at(static_cast<std::size_t>(kernel)).name; }

}  // namespace plait::cuda
