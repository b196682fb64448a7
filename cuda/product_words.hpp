#pragma once

#include "cuda/queue.hpp"
#include "cuda/runtime.hpp"

#include <cublasLt.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

/// Products in cuBLASLt's words.
namespace plait::cuda::lt {

void check_lt(cublasStatus_t status, std::string_view what);

template <class T, auto destroy>
struct Destroy {
    using pointer = T;
    void operator()(T x) const { static_cast<void>(destroy(x)); }
};
template <class T, auto destroy>
using Handle = std::unique_ptr<T, Destroy<T, destroy>>;
using Description = Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

template <class V>
void set(Description const& to, cublasLtMatmulDescAttributes_t what, V value) {
    check_lt(cublasLtMatmulDescSetAttribute(to.get(), what, &value, sizeof value), "a product's attribute");
}
template <class V>
void set(Layout const& to, cublasLtMatrixLayoutAttribute_t what, V value) {
    check_lt(cublasLtMatrixLayoutSetAttribute(to.get(), what, &value, sizeof value), "a matrix's attribute");
}
template <class V>
void set(Preference const& to, cublasLtMatmulPreferenceAttributes_t what, V value) {
    check_lt(cublasLtMatmulPreferenceSetAttribute(to.get(), what, &value, sizeof value), "a preference");
}

/// Bytes, at most 16, that all that is said of a matrix is a multiple of. More would make the choice of an
/// algorithm depend on addresses, and no access is wider.
std::uint32_t alignment(Matrix const& x, std::int64_t batch);

/// What GELU's input is written to beside the product, or read from.
inline void const* beside(Multiplication const& p) { return p.gelu_input ? p.gelu_input : p.before_gelu; }

/// The vector that an epilogue adds or makes.
inline void const* vector_of(Multiplication const& p) { return p.bias ? p.bias : p.row_sums; }

/// What an algorithm hangs on.
std::string shape_of(Multiplication const& p, bool tf32);

/// A product in cuBLASLt's words. Its matrices hold columns, ours rows: it is told that it makes the
/// transpose of c, [n, m], of those of b and a.
struct Plan {
    Description description;
    Layout b, a, c;
    cublasLtMatmulAlgo_t algorithm{};
    bool whole = true;  // bias, GELU and their gradients with the product
};

/// Tells of the factors of one operand, where it has some.
void set_scales(Description const& d, Matrix const& x, cublasLtMatmulDescAttributes_t mode,
                cublasLtMatmulDescAttributes_t pointer);
Plan describe(Multiplication const& p, bool tf32);

/// Whether cuBLASLt may be asked for GELU or its gradient with the product: what it writes or reads beside
/// has rows of a multiple of 8, and no access across 16 bytes.
bool may_be_whole(Multiplication const& p);
/// The same product `batch` times, of dense matrices anywhere.
Multiplication dense_batch(Multiplication p, std::int64_t batch);
/// One product of a batch.
Multiplication one_of(Multiplication p, std::int64_t i);
/// Parts that an algorithm divides the summed dim into.
std::int32_t splits(cublasLtMatmulAlgo_t const& algorithm);

}  // namespace plait::cuda::lt
