#pragma once

#include "plait/core/check.hpp"

#include <cuda_runtime_api.h>

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

/// Throws Error, with what was tried, unless it worked. For errors that say nothing of what ran before.
inline void check_cuda(cudaError_t error, std::string_view what) {
    if (error == cudaSuccess) return;
    static_cast<void>(cudaGetLastError());  // else the next one who asks is told of it
    fail("CUDA: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

}  // namespace plait::cuda
