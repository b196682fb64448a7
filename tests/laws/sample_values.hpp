#pragma once

#include "laws/samples.hpp"
#include "plait/core/random.hpp"
#include "plait/tensor.hpp"

#include <algorithm>
#include <cmath>

/// Values for the samples, and how far two results are apart.
namespace tests {

inline std::vector<Array> inputs_of(Sample const& s, DType dtype, std::uint64_t seed) {
    std::vector<Array> arrays;
    for (auto const& i : s.in) {
        Meta m = i.meta;
        if (m.dtype == f64) m.dtype = i.wide && dtype == bf16 ? f32 : dtype;
        Array a(m);
        Random random{seed, hash_name(s.name) + arrays.size(), 0};
        for (std::int64_t e = 0; e < m.elements(); ++e) {
            auto n = static_cast<std::size_t>(e);
            double x = i.low + (i.high - i.low) * random.uniform(n);
            if (m.dtype == f64) a.values<double>()[n] = x;
            if (m.dtype == f32) a.values<float>()[n] = static_cast<float>(x);
            if (m.dtype == bf16) a.values<Bf16>()[n] = Bf16(static_cast<float>(x));
            if (m.dtype == i32) a.values<std::int32_t>()[n] = static_cast<std::int32_t>(std::floor(x));
            if (m.dtype == i64) a.values<std::int64_t>()[n] = static_cast<std::int64_t>(std::floor(x));
            if (m.dtype == u8) a.values<std::uint8_t>()[n] = static_cast<std::uint8_t>(x);
        }
        arrays.push_back(std::move(a));
    }
    return arrays;
}

/// The values widened to f64: the same numbers for the oracle.
inline std::vector<Array> widened(std::vector<Array> const& from) {
    std::vector<Array> to;
    for (auto const& a : from) {
        if (!is_floating(a.meta().dtype)) {
            to.push_back(a);
            continue;
        }
        Array b({f64, a.shape()});
        for (std::int64_t i = 0; i < a.meta().elements(); ++i)
            b.values<double>()[static_cast<std::size_t>(i)] = a.at(i);
        to.push_back(std::move(b));
    }
    return to;
}

inline Tensors constants(std::vector<Array> const& arrays) {
    Tensors t;
    for (auto const& a : arrays) t.emplace_back(a);
    return t;
}

/// Largest difference of any output element, relative to the output's largest element (at least 1).
inline double error(std::vector<Array> const& a, std::vector<Array> const& b) {
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i].shape() != b[i].shape()) return 1e30;
        double scale = 1;
        for (std::int64_t e = 0; e < b[i].meta().elements(); ++e)
            if (std::isfinite(b[i].at(e))) scale = std::max(scale, std::abs(b[i].at(e)));
        for (std::int64_t e = 0; e < b[i].meta().elements(); ++e) {
            if (a[i].at(e) == b[i].at(e)) continue;  // infinities too
            double d = std::abs(a[i].at(e) - b[i].at(e)) / scale;
            worst = std::max(worst, std::isnan(d) ? 1e30 : d);
        }
    }
    return worst;
}

/// Whether the op takes its operands in `dtype`; those that do not say so when they infer.
inline bool takes(Sample const& s, std::vector<Array> const& in) {
    Metas m;
    for (auto const& a : in) m.push_back(a.meta());
    try {
        s.op.infer(m);
        return true;
    } catch (ShapeError const&) {
        return false;
    }
}

}  // namespace tests
