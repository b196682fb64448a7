#pragma once

#include "plait/core/check.hpp"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <string_view>

namespace plait::cuda {

/// Whether nothing works on the device after this error: all that this process asks of it fails alike.
constexpr bool loses_device(cudaError_t error) {
    switch (error) {
        case cudaErrorECCUncorrectable:
        case cudaErrorNvlinkUncorrectable:
        case cudaErrorContained:
        case cudaErrorIllegalAddress:
        case cudaErrorLaunchTimeout:
        case cudaErrorContextIsDestroyed:
        case cudaErrorAssert:
        case cudaErrorHardwareStackError:
        case cudaErrorIllegalInstruction:
        case cudaErrorMisalignedAddress:
        case cudaErrorInvalidAddressSpace:
        case cudaErrorInvalidPc:
        case cudaErrorLaunchFailure:
        case cudaErrorTensorMemoryLeak:
        case cudaErrorExternalDevice:
            return true;
        default:
            return false;
    }
}

/// Before the first call of CUDA: streams get a hardware queue each, up to the 32 that there can be. In the 8
/// that are the default, work of a stream that could go on stands behind that of one that waits for a rank.
inline void before_cuda() { ::setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0); }

/// Throws Error, with what was tried, unless it worked. For errors that say nothing of what ran before.
inline void check_cuda(cudaError_t error, std::string_view what) {
    if (error == cudaSuccess) return;
    static_cast<void>(cudaGetLastError());  // else the next one who asks is told of it
    fail("CUDA: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

}  // namespace plait::cuda
