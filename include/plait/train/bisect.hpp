#pragma once

#include "plait/train/recording.hpp"

#include <cstdint>
#include <string>
#include <vector>

// Where two layouts of one run part, and whether that is rounding.
namespace plait {

/// A value of one step that two recordings do not have in the same bits. Differences and errors are relative:
/// to the root mean square of the whole where they are root mean squares, to its largest |x| where they are
/// the largest of an element.
struct Difference {
    std::int64_t step = 0;
    std::string name;
    int rank =
        -1;  // of b, that holds the first element that differs; -1: all hold it, or no values were kept
    std::int64_t first = 0, elements = 0, of = 0;  // logical index of the first; how many differ
    double largest = 0;                            // |a - b|
    double relative = 0;                           // root mean square of a - b
    double a_error = 0, b_error = 0;               // against the exact values, where there are any
    double bound = 0;                              // what rounding explains, of the larger error
    bool beyond = false;
    std::string why{};  // of `beyond`, where it is not the bound: "rank 1 holds another copy"
};

/// What rounding is judged by.
enum class Judge : std::uint8_t {
    bits,      // both promise the same bits
    exact,     // the errors of both against a run in f64
    estimate,  // dtype, length of sums, depth
};

struct Bisection {
    Judge judge = Judge::bits;
    std::int64_t compared = 0, same = 0;  // values
    std::vector<Difference> differences;  // in the order of the program, step by step
    std::vector<std::string> notes;       // values that only one recording has

    /// The first that rounding does not explain, or null.
    Difference const* fault() const;
};

/// Compares what two layouts recorded, in the order of a's program. Two that are canonical (bits = "layout")
/// must have the same bits. Else `exact`, a recording in f64 of the same steps, tells rounding from faults:
/// rounding errors of one model are alike on all layouts, so that of one side may be a few times that of the
/// other and no more. (|a - b| itself says nothing: it is never above the sum of both errors.) Without
/// `exact`, or where values were not kept, the bound is an estimate. Throws UsageError where the recordings
/// share no value, or a value has two shapes.
Bisection bisect(Recording const& a, Recording const& b, Recording const* exact = nullptr);

/// The "3" of "blocks.3.attention.q.out", or "-".
std::string layer_of(std::string const& name);
/// A line with the verdict, and a table of the first `most` differences (those beyond the bound where there
/// are any).
std::string bisection_text(Bisection const& found, std::size_t most = 10);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/train/bisect-inl.hpp"
#endif
