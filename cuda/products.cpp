#include "cuda/products.hpp"

#include "cuda/launch.hpp"
#include "cuda/product_cache.hpp"
#include "cuda/product_words.hpp"
#include "cuda/rows/multiply.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace plait::cuda {

using namespace lt;
using CudaEvent = Handle<cudaEvent_t, cudaEventDestroy>;

struct CublasProducts::Library {
    using Candidates = std::vector<cublasLtMatmulHeuristicResult_t>;

    /// From the one that should be fastest on. Without `splits` none that divides the summed dim.
    Candidates candidates(Plan const& plan, Multiplication const& p, int most, bool may_split,
                          std::int64_t workspace) const;
    cublasStatus_t run(Plan const& plan, Multiplication const& p, std::byte* to, cudaStream_t stream) const;
    /// Sets plan.algorithm; false where there is none.
    bool choose(Plan& plan, Multiplication const& p, std::string const& shape, cudaStream_t stream,
                bool recording);
    /// By a rule that looks at the sizes and dtypes of one product, never at how many there are in a batch or
    /// where they lie, so that each has the same bits in every batch.
    bool choose_fixed(Plan& plan, Multiplication const& p) const;
    bool may_run(Plan const& plan, cublasLtMatmulAlgo_t const& algorithm, std::int64_t workspace) const;
    bool choose_known(Plan& plan, Multiplication const& p, std::string const& shape) const;
    /// Sets plan.algorithm and gives its milliseconds, without end where none runs; nothing where there was
    /// no memory to try in. With `aside` the results go elsewhere: c must not be added to before its time.
    std::optional<float> choose_fastest(Plan& plan, Multiplication p, Candidates const& candidates,
                                        bool aside, cudaStream_t stream) const;
    /// Whether a product that makes the sums of rows takes longer, by `milliseconds`, than one without them
    /// and a look at its left side.
    bool better_apart(Multiplication p, float milliseconds, cudaStream_t stream) const;
    /// A bias, GELU and its gradient by kernels of our own.
    void in_parts(CublasProducts& products, Multiplication p, Queue& queue, cudaStream_t stream,
                  bool recording);

    ProductOptions options;
    Handle<cublasLtHandle_t, cublasLtDestroy> handle;
    ProductCache cache{{}};
    std::map<std::string, Plan> plans;
};

CublasProducts::CublasProducts(ProductOptions options) : library_(std::make_unique<Library>()) {
    cublasLtHandle_t handle = nullptr;
    check_lt(cublasLtCreate(&handle), "it does not start");
    library_->handle.reset(handle);
    library_->options = std::move(options);
    if (!library_->options.fixed_algorithms)
        library_->cache = ProductCache(ProductCache::file_for(library_->options.gpu, cublasLtGetVersion()));
}

CublasProducts::~CublasProducts() = default;

CublasProducts::Library::Candidates CublasProducts::Library::candidates(Plan const& plan,
                                                                        Multiplication const& p, int most,
                                                                        bool may_split,
                                                                        std::int64_t workspace) const {
    cublasLtMatmulPreference_t made = nullptr;
    check_lt(cublasLtMatmulPreferenceCreate(&made), "a preference");
    Preference preference(made);
    auto for_c = alignment(p.c, p.batch);
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b, p.batch));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a, p.batch));
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, for_c);
    set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, for_c);
    // Parts of a sum are added up in f32, or there are none: bf16 is rounded to once.
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(may_split ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                                             : CUBLASLT_REDUCTION_SCHEME_NONE));
    Candidates found(static_cast<std::size_t>(most));
    int count = 0;
    auto status = cublasLtMatmulAlgoGetHeuristic(handle.get(), plan.description.get(), plan.b.get(),
                                                 plan.a.get(), plan.c.get(), plan.c.get(), preference.get(),
                                                 most, found.data(), &count);
    if (status != CUBLAS_STATUS_SUCCESS) count = 0;
    found.resize(static_cast<std::size_t>(count));
    std::erase_if(found, [&](auto const& f) {
        return f.state != CUBLAS_STATUS_SUCCESS || f.workspaceSize > static_cast<std::size_t>(workspace) ||
               (!may_split && splits(f.algo) > 1);
    });
    return found;
}

cublasStatus_t CublasProducts::Library::run(Plan const& plan, Multiplication const& p, std::byte* to,
                                            cudaStream_t stream) const {
    float const one = 1, beta = p.accumulate ? 1 : 0;
    set_scales(plan.description, p.b, CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
               CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
    set_scales(plan.description, p.a, CUBLASLT_MATMUL_DESC_B_SCALE_MODE,
               CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
    if (auto const* vector = vector_of(p)) set(plan.description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector);
    if (auto const* x = beside(p)) set(plan.description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, x);
    return cublasLtMatmul(handle.get(), plan.description.get(), &one, p.b.data, plan.b.get(), p.a.data,
                          plan.a.get(), &beta, p.c.data, plan.c.get(), to, plan.c.get(), &plan.algorithm,
                          p.workspace, static_cast<std::size_t>(p.workspace_bytes), stream);
}

bool CublasProducts::Library::choose_known(Plan& plan, Multiplication const& p,
                                           std::string const& shape) const {
    auto known = cache.find(shape);
    if (!known) return false;
    static_assert(sizeof *known == sizeof plan.algorithm);
    std::memcpy(&plan.algorithm, known->data(), sizeof plan.algorithm);
    return may_run(plan, plan.algorithm, p.workspace_bytes);
}

bool CublasProducts::Library::may_run(Plan const& plan, cublasLtMatmulAlgo_t const& algorithm,
                                      std::int64_t workspace) const {
    cublasLtMatmulHeuristicResult_t result{};
    auto status = cublasLtMatmulAlgoCheck(handle.get(), plan.description.get(), plan.b.get(), plan.a.get(),
                                          plan.c.get(), plan.c.get(), &algorithm, &result);
    return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= static_cast<std::size_t>(workspace);
}

bool CublasProducts::Library::choose_fixed(Plan& plan, Multiplication const& p) const {
    // Leaves of a batch run as one batch: what is best for several is taken for one too.
    constexpr std::int64_t several = 8;
    auto const many = dense_batch(p, several);
    auto const of_many = describe(many, options.tf32), of_one = describe(dense_batch(p, 1), options.tf32);
    for (auto const* like : {&of_many, &of_one})
        // Without workspace nothing can be added up beside the result.
        for (std::int64_t workspace : {std::int64_t{0}, p.workspace_bytes})
            for (auto const& found : candidates(*like, many, 16, false, workspace)) {
                if (!may_run(of_one, found.algo, workspace)) continue;
                plan.algorithm = found.algo;
                return may_run(plan, found.algo, workspace);
            }
    return false;
}

std::optional<float> CublasProducts::Library::choose_fastest(Plan& plan, Multiplication p,
                                                             Candidates const& candidates, bool aside,
                                                             cudaStream_t stream) const {
    struct Free {
        void operator()(std::byte* x) const { static_cast<void>(cudaFree(x)); }
    };
    std::unique_ptr<std::byte, Free> elsewhere;
    if (aside) {
        auto const elements = (p.batch - 1) * p.c.batch_stride + (p.m - 1) * p.c.stride + p.n;
        auto const bytes = padded(bytes_of(p.c.dtype, elements));
        void* memory = nullptr;
        if (cudaMalloc(&memory, static_cast<std::size_t>(bytes + bytes_of(f32, p.m))) != cudaSuccess) {
            static_cast<void>(cudaGetLastError());
            return {};
        }
        elsewhere.reset(static_cast<std::byte*>(memory));
        if (p.row_sums) p.row_sums = elsewhere.get() + bytes;
    }
    auto* to = elsewhere ? elsewhere.get() : p.c.data;
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreate(&event), "an event");
    CudaEvent start(event);
    check_cuda(cudaEventCreate(&event), "an event");
    CudaEvent stop(event);
    auto fastest = std::numeric_limits<float>::max();
    auto best = plan.algorithm;
    for (auto const& candidate : candidates) {
        plan.algorithm = candidate.algo;
        // The first run loads the kernel; of the others the fastest counts.
        auto least = std::numeric_limits<float>::max();
        bool runs = run(plan, p, to, stream) == CUBLAS_STATUS_SUCCESS;
        for (int i = 0; i < 3 && runs; ++i) {
            float milliseconds = 0;
            check_cuda(cudaEventRecord(start.get(), stream), "an event");
            runs = run(plan, p, to, stream) == CUBLAS_STATUS_SUCCESS;
            check_cuda(cudaEventRecord(stop.get(), stream), "an event");
            check_cuda(cudaEventSynchronize(stop.get()), "a product that is timed");
            check_cuda(cudaEventElapsedTime(&milliseconds, start.get(), stop.get()),
                       "a product that is timed");
            least = std::min(least, milliseconds);
        }
        // A difference that may be noise does not count against the library's order.
        if (runs && least < 0.98f * fastest) {
            fastest = least;
            best = candidate.algo;
        }
    }
    plan.algorithm = best;
    return fastest;
}

bool CublasProducts::Library::better_apart(Multiplication p, float milliseconds, cudaStream_t stream) const {
    constexpr double bytes_per_millisecond = 2.5e9, launches = 5e-3;  // of a look at a, on an H100
    p.row_sums = nullptr;
    auto plain = describe(p, options.tf32);
    auto const found = candidates(plain, p, 8, true, p.workspace_bytes);
    if (found.empty()) return false;
    auto const without = choose_fastest(plain, p, found, true, stream);
    auto const look = static_cast<double>(bytes_of(p.a.dtype, p.m * p.k)) / bytes_per_millisecond + launches;
    return without && static_cast<double>(milliseconds - *without) > look;
}

bool CublasProducts::Library::choose(Plan& plan, Multiplication const& p, std::string const& shape,
                                     cudaStream_t stream, bool recording) {
    // Whether sums of rows are made in one order whatever the shape is not known.
    if (options.fixed_algorithms) return !p.row_sums && choose_fixed(plan, p);
    constexpr ProductCache::Algorithm apart{};
    if (cache.find(shape) == apart) return false;
    if (choose_known(plan, p, shape)) return true;
    auto found = candidates(plan, p, 8, true, p.workspace_bytes);
    if (found.empty()) return false;
    plan.algorithm = found.front().algo;
    if (recording) return true;
    ProductCache::Algorithm words{};
    if (found.size() > 1 || p.row_sums) {
        auto const milliseconds = choose_fastest(plan, p, found, p.accumulate || p.row_sums, stream);
        if (!milliseconds) return true;
        if (*milliseconds == std::numeric_limits<float>::max()) return false;
        if (p.row_sums && better_apart(p, *milliseconds, stream)) {
            cache.put(shape, apart);
            return false;
        }
    }
    std::memcpy(words.data(), &plan.algorithm, sizeof words);
    cache.put(shape, words);
    return true;
}

void CublasProducts::Library::in_parts(CublasProducts& products, Multiplication p, Queue& queue,
                                       cudaStream_t stream, bool recording) {
    auto const by_dtype = [&](auto f) { p.c.dtype == f32 ? f(float{}) : f(Bf16{}); };
    auto const c = p.c;
    auto* const bias = std::exchange(p.bias, nullptr);
    auto* const before = std::exchange(p.before_gelu, nullptr);
    auto* const input = std::exchange(p.gelu_input, nullptr);
    if (before) p.c.data = before;
    if (bias) {
        // The product is added to the bias, so that the sum is rounded once.
        by_dtype([&]<class T>(T) {
            cuda::launch(queue, BiasRows<T>{reinterpret_cast<T*>(p.c.data), reinterpret_cast<T const*>(bias),
                                            p.batch, p.m, p.n, c.stride, c.batch_stride, p.accumulate});
        });
        p.accumulate = true;
    }
    products.multiply(p, queue, stream, recording);
    if (before)
        by_dtype([&]<class T>(T) {
            cuda::launch(queue, GeluRows<T>{reinterpret_cast<T const*>(before), reinterpret_cast<T*>(c.data),
                                            p.batch, p.m, p.n, c.stride, c.batch_stride});
        });
    if (input)
        by_dtype([&]<class T>(T) {
            auto* y = reinterpret_cast<T*>(c.data);
            cuda::launch(
                queue, Map<GeluGradient, T>{
                           .x = {reinterpret_cast<T const*>(input), y}, .y = {y}, .n = p.batch * p.m * p.n});
        });
}

bool CublasProducts::multiply(Multiplication const& product, Queue& queue, cudaStream_t stream,
                              bool recording) {
    auto p = product;
    if (p.m == 0 || p.n == 0 || p.batch == 0) return true;
    AlignedWorkspace workspace(p.workspace, p.workspace_bytes);
    p.workspace = workspace.data, p.workspace_bytes = workspace.bytes;
    auto told = [&] { return fmt::format("a product [{}, {}, {}] x {}", p.m, p.n, p.k, p.batch); };
    check(p.k > 0, "{}: it sums over nothing", told());
    check(p.batch <= std::numeric_limits<std::int32_t>::max(), "{}: too many at once", told());
    check(!(p.accumulate && p.before_gelu), "{}: GELU of a sum over several products", told());
    check(!p.gelu_input || !(p.accumulate || p.bias || p.before_gelu), "{}: GELU's gradient of more than it",
          told());
    check(!p.gelu_input || (p.c.stride == p.n && (p.batch == 1 || p.c.batch_stride == p.m * p.n)),
          "{}: GELU's gradient of it has gaps", told());
    check(!p.row_sums || (p.batch == 1 && !p.bias && !beside(p)), "{}: sums of rows of more than it", told());
    auto& library = *library_;
    auto shape = shape_of(p, library.options.tf32);
    auto known = library.plans.find(shape);
    if (known == library.plans.end()) {
        auto plan = describe(p, library.options.tf32);
        plan.whole = may_be_whole(p) && library.choose(plan, p, shape, stream, recording);
        check(plan.whole || p.batch > 1 || vector_of(p) || beside(p),
              "{} of {}: cuBLASLt has no algorithm for it", told(), name_of(p.a.dtype));
        known = library.plans.emplace(std::move(shape), std::move(plan)).first;
    }
    if (!known->second.whole && p.batch > 1) {
        for (std::int64_t i = 0; i < p.batch; ++i) multiply(one_of(product, i), queue, stream, recording);
    } else if (known->second.whole) {
        check_lt(library.run(known->second, p, p.c.data, stream), told());
    } else if (p.row_sums) {
        return false;
    } else {
        library.in_parts(*this, product, queue, stream, recording);
    }
    return true;
}

}  // namespace plait::cuda
