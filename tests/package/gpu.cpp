// What a GPU would be asked for can be planned by any build.
#include <plait/cuda/device.hpp>
#include <plait/cuda/nccl.hpp>

bool plans_for_gpus() {
    return plait::cuda::planning_backend()->name() == "cuda" &&
           !plait::cuda::planning_backend()->kernels().empty();
}
