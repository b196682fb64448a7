#pragma once

#include "cuda/machine.hpp"

namespace plait::cuda {

struct BackendOptions {
    /// Every step is asked for anew, and the device is waited for after every op, so that a fault names it.
    bool sync = false;
};

/// A backend over a machine: the rows of rows.hpp.
std::shared_ptr<Backend> make_backend(std::shared_ptr<Machine> machine, BackendOptions options = {});

}  // namespace plait::cuda
