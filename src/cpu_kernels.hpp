#pragma once

// Everything that the kernels include, before a variant switches the instruction set on: what these headers
// define must stay code that runs anywhere.
#include "plait/core/array.hpp"
#include "plait/core/random.hpp"
#include "plait/cpu/backend.hpp"
#include "plait/cpu/gemm.hpp"
#include "plait/cpu/thread_pool.hpp"
#include "plait/graph/micro.hpp"
#include "plait/ops/attention.hpp"
#include "plait/ops/cache.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/embedding.hpp"
#include "plait/ops/loss.hpp"
#include "plait/ops/matmul.hpp"
#include "plait/ops/norm.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/ops/update.hpp"
#include "plait/ops/view.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
