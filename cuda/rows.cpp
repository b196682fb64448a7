#include "cuda/rows.hpp"

#include "plait/ops/view.hpp"

namespace plait::cuda {

void unsupported(KernelCall const& call, DType dtype) {
    fail("{}: a GPU has no kernel for {}: cast it to f32 or bf16, or run on the CPU", call.op->text(),
         plait::name_of(dtype));
}

KernelTable rows() {
    // op, what puts it on a queue, bytes of workspace, the outputs (bits) that it can add to, many at once
    static constexpr KernelRow table[] = {
        {Reshape::name, reshape},
    };
    return table;
}

}  // namespace plait::cuda
