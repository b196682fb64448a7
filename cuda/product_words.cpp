#include "cuda/product_words.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace plait::cuda::lt {
namespace {

cudaDataType_t type_of(DType dtype) {
    check(dtype == f32 || dtype == bf16, "a product of {} on a GPU: cast it to f32 or bf16", name_of(dtype));
    return dtype == f32 ? CUDA_R_32F : CUDA_R_16BF;
}

template <class... N>
std::uint32_t alignment(N... n) {
    return 1u << std::countr_zero((static_cast<std::uint64_t>(n) | ... | 16u));
}
/// An address that nobody reads, as well aligned as that one: the choice of an algorithm looks at it.
void* stand_in(void const* address) {
    return reinterpret_cast<void*>(std::uintptr_t{1 << 20} +
                                   alignment(reinterpret_cast<std::uintptr_t>(address)));
}

Layout layout(Matrix const& x, std::int64_t rows, std::int64_t columns, std::int64_t batch) {
    if (x.transposed) std::swap(rows, columns);
    cublasLtMatrixLayout_t made = nullptr;
    check_lt(cublasLtMatrixLayoutCreate(&made, type_of(x.dtype), static_cast<std::uint64_t>(columns),
                                        static_cast<std::uint64_t>(rows), std::max(x.stride, columns)),
             "a matrix");
    Layout result(made);
    if (batch > 1) {
        set(result, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batch));
        set(result, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, x.batch_stride);
    }
    return result;
}

}  // namespace

void check_lt(cublasStatus_t status, std::string_view what) {
    check(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: {}: {}", what, cublasLtGetStatusString(status));
}

std::uint32_t alignment(Matrix const& x, std::int64_t batch) {
    auto bytes = bytes_of(x.dtype, 1);
    return alignment(reinterpret_cast<std::uintptr_t>(x.data), x.stride * bytes,
                     batch > 1 ? x.batch_stride * bytes : 0);
}

std::string shape_of(Multiplication const& p, bool tf32) {
    auto matrix = [&](Matrix const& x) {
        return fmt::format("{}{} {} {} {} {}", name_of(x.dtype), x.transposed ? "'" : "", x.stride,
                           p.batch > 1 ? x.batch_stride : 0, alignment(x, p.batch),
                           static_cast<int>(x.scaling));
    };
    auto vector = [](void const* x) { return x ? alignment(reinterpret_cast<std::uintptr_t>(x)) : 0u; };
    return fmt::format("{} {} {} {}{} | {} | {} | {} | {} {} {} {} {}", p.m, p.n, p.k, p.batch,
                       tf32 && p.a.dtype == f32 ? " tf32" : "", matrix(p.a), matrix(p.b), matrix(p.c),
                       p.accumulate, vector(p.bias), vector(p.before_gelu), vector(p.gelu_input),
                       p.workspace_bytes) +
           (p.row_sums ? fmt::format(" | {}", vector(p.row_sums)) : "");
}

void set_scales(Description const& d, Matrix const& x, cublasLtMatmulDescAttributes_t mode,
                cublasLtMatmulDescAttributes_t pointer) {
    if (x.scaling == Scaling::none) return;
    set<std::int32_t>(d, mode,
                      x.scaling == Scaling::whole   ? CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F
                      : x.scaling == Scaling::by_32 ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC32_UE8M0
                                                    : CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3);
    set(d, pointer, static_cast<void const*>(x.scales));
}

Plan describe(Multiplication const& p, bool tf32) {
    Plan plan;
    cublasLtMatmulDesc_t made = nullptr;
    auto compute = tf32 && p.a.dtype == f32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    check_lt(cublasLtMatmulDescCreate(&made, compute, CUDA_R_32F), "a product");
    plan.description.reset(made);
    auto const& d = plan.description;
    set<std::int32_t>(d, CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set<std::int32_t>(d, CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_scales(d, p.b, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER);
    set_scales(d, p.a, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER);
    std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (p.gelu_input) epilogue = CUBLASLT_EPILOGUE_DGELU;
    else if (p.before_gelu) epilogue = p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    else if (p.bias) epilogue = CUBLASLT_EPILOGUE_BIAS;
    else if (p.row_sums) epilogue = CUBLASLT_EPILOGUE_BGRADB;  // its b is our a
    set(d, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    if (auto const* vector = vector_of(p)) {
        set(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
            static_cast<std::int32_t>(type_of(p.bias ? p.c.dtype : f32)));
        set(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, stand_in(vector));
    }
    if (beside(p)) {
        set(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, std::max(p.c.stride, p.n));
        if (p.batch > 1) set(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, p.c.batch_stride);
        set(d, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, stand_in(beside(p)));
    }
    plan.b = layout(p.b, p.k, p.n, p.batch);
    plan.a = layout(p.a, p.m, p.k, p.batch);
    plan.c = layout(p.c, p.m, p.n, p.batch);
    return plan;
}

bool may_be_whole(Multiplication const& p) {
    auto const* x = beside(p);
    return !x || (alignment(reinterpret_cast<std::uintptr_t>(x)) == 16 &&
                  std::max(p.c.stride, p.n) % 8 == 0 && (p.batch == 1 || p.c.batch_stride % 8 == 0));
}

Multiplication dense_batch(Multiplication p, std::int64_t batch) {
    auto dense = [](Matrix& x, std::int64_t rows, std::int64_t columns) {
        x.data = nullptr;
        x.stride = x.transposed ? rows : columns;
        x.batch_stride = rows * columns;
    };
    p.batch = batch;
    // At the bytes of an element: what may run there may run anywhere.
    if (p.bias) p.bias = reinterpret_cast<std::byte const*>(bytes_of(p.c.dtype, 1));
    dense(p.a, p.m, p.k), dense(p.b, p.k, p.n), dense(p.c, p.m, p.n);
    return p;
}

Multiplication one_of(Multiplication p, std::int64_t i) {
    auto move = [&](auto*& data, Matrix const& as) {
        if (data) data += bytes_of(as.dtype, i * as.batch_stride);
    };
    move(p.before_gelu, p.c), move(p.gelu_input, p.c);
    for (auto* x : {&p.a, &p.b, &p.c}) move(x->data, *x);
    p.batch = 1;
    return p;
}

std::int32_t splits(cublasLtMatmulAlgo_t const& algorithm) {
    std::int32_t count = 1;
    std::size_t written = 0;
    auto status = cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &count,
                                                       sizeof count, &written);
    return status == CUBLAS_STATUS_SUCCESS ? count : 1;
}

}  // namespace plait::cuda::lt
