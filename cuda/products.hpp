#pragma once

#include "cuda/queue.hpp"

#include <cuda_runtime_api.h>

#include <memory>
#include <string>

namespace plait::cuda {

struct ProductOptions {
    std::string gpu;                // its name: what was fastest on one is kept for its like
    bool fixed_algorithms = false;  // GpuOptions
    bool tf32 = false;
};

/// Matrix products by cuBLASLt. An algorithm is chosen when a shape is first met, from then on it is the
/// same. Of one thread at a time.
class CublasProducts {
  public:
    explicit CublasProducts(ProductOptions options);
    ~CublasProducts();

    /// Puts the product on the stream, which is that of `queue`. Throws Error where cuBLASLt does not take
    /// it.
    bool multiply(Multiplication const& product, Queue& queue, cudaStream_t stream, bool recording);

  private:
    struct Library;
    std::unique_ptr<Library> library_;
};

}  // namespace plait::cuda
