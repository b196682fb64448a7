#include "cuda/gpu_device.hpp"

#include "plait/cuda/device.hpp"

#include "cuda/runtime.hpp"
#include "cuda/table.hpp"

#include <memory>

namespace plait::cuda {
namespace {

std::string version(int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); }

/// How many devices there are, or why none can be asked for.
int count_devices() {
    int count = 0, driver = 0, runtime = 0;
    auto error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0) return count;
    static_cast<void>(cudaGetLastError());
    static_cast<void>(cudaDriverGetVersion(&driver));
    static_cast<void>(cudaRuntimeGetVersion(&runtime));
    check<UsageError>(driver != 0,
                      "no NVIDIA driver was found: install one for CUDA {} or newer, or run on the CPU "
                      "(run.device = \"cpu\")",
                      version(runtime));
    if (error == cudaErrorInsufficientDriver || error == cudaErrorCallRequiresNewerDriver)
        fail<UsageError>(
            "the NVIDIA driver is for CUDA {}, too old for CUDA {} that this was built with: update the "
            "driver, or build with an older toolkit",
            version(driver), version(runtime));
    if (error == cudaSuccess || error == cudaErrorNoDevice)
        fail<UsageError>(
            "no GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES, or run on the CPU "
            "(run.device = \"cpu\")");
    fail<UsageError>("the GPUs cannot be used: {} (driver for CUDA {}, built with CUDA {}): check nvidia-smi",
                     cudaGetErrorString(error), version(driver), version(runtime));
}

void take(cudaError_t error, int number, char const* what) {
    if (error == cudaSuccess) return;
    static_cast<void>(cudaGetLastError());
    fail<UsageError>("GPU {}: {}: {}: check nvidia-smi, another process may hold it", number, what,
                     cudaGetErrorString(error));
}

}  // namespace

int gpu_count() {
    before_cuda();
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    static_cast<void>(cudaGetLastError());
    return 0;
}

GpuDevice take_device(int number) {
    auto count = count_devices();
    check<UsageError>(number >= 0 && number < count,
                      "there is no GPU {}: CUDA shows {}, numbered from 0 (CUDA_VISIBLE_DEVICES limits them)",
                      number, count);
    take(cudaSetDevice(number), number, "it cannot be taken");
    take(cudaFree(nullptr), number, "it cannot be taken");  // now, not at the first kernel

    GpuDevice device;
    device.number = number;
    auto properties = std::make_unique<cudaDeviceProp>();
    take(cudaGetDeviceProperties(properties.get(), number), number, "its properties");
    device.name = properties->name;
    device.architecture = 10 * properties->major + properties->minor;
    take(cudaDeviceGetStreamPriorityRange(&device.priority, &device.high_priority), number, "its priorities");

    // All are loaded here: loading may wait for the device to be idle, which it is not beside a collective
    // that waits for another rank.
    cudaFuncAttributes attributes{};
    auto error = cudaSuccess;
    for (auto const& kernel : compiled_kernels()) {
        if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, kernel.entry);
        if (error == cudaSuccess && kernel.dynamic_bytes > 0)
            error = cudaFuncSetAttribute(kernel.entry, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         kernel.dynamic_bytes);
    }
    if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction ||
        error == cudaErrorInvalidKernelImage || error == cudaErrorUnsupportedPtxVersion) {
        static_cast<void>(cudaGetLastError());
        fail<UsageError>(
            "{} is of sm_{}, and the kernels were built for {}: configure with "
            "-DCMAKE_CUDA_ARCHITECTURES={} and build again, or run on the CPU (run.device = \"cpu\")",
            device.name, device.architecture, PLAIT_CUDA_ARCHITECTURES,
            std::to_string(device.architecture) + (device.architecture >= 90 ? "a" : ""));
    }
    take(error, number, "its kernels");
    return device;
}

}  // namespace plait::cuda
