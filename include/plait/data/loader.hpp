#pragma once

#include "plait/core/check.hpp"
#include "plait/core/inline.hpp"
#include "plait/data/tokens.hpp"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace plait {

/// A range of positions in a text, end exclusive.
struct Piece {
    std::int64_t begin = 0, end = 0;
    std::int64_t size() const { return end - begin; }
    bool operator==(Piece const&) const = default;
};
using Pieces = std::vector<Piece>;

/// Two parts of one text that share no position, each in order.
struct Split {
    Pieces train, validation;
};

/// Cuts a text of `size` bytes into up to 16 equal chunks and takes the last `fraction` of each for
/// validation, so that validation sees every part of the text. There are as many chunks as leave 16 KiB of
/// validation in each, at least one. The split depends on nothing but `size` and `fraction`, which is in [0,
/// 1).
Split split_text(std::int64_t size, double fraction);

/// The bytes of some pieces one after another.
std::vector<std::uint8_t> gather(std::span<std::uint8_t const> text, Pieces const& pieces);

/// Where `index` goes in a pseudo-random order of [0, count): a bijection for every key, computed without a
/// table (a Feistel network with cycle walking; Black and Rogaway, "Ciphers with arbitrary finite domains",
/// 2002).
std::int64_t permuted(std::int64_t index, std::int64_t count, std::uint64_t key);

enum class Order : std::uint8_t {
    shuffled,  // for training: another order and another offset of the windows in every epoch
    fixed,     // for validation: every epoch the same, whatever the seed
};

/// Batches of windows of tokens, which may span documents. Which window is sample `i` of the run is a
/// function of (seed, i), so a resumed run or another division of the rows over ranks sees the same samples.
/// The cursor to save is the step.
class Loader {
  public:
    /// What `text` views must outlive the loader. Windows never cross the edge of a piece. Throws UsageError
    /// when no piece holds a window of seq + 1 tokens; `what` names the text there ("training",
    /// "validation").
    Loader(Tokens text, Pieces pieces, std::int64_t batch, std::int64_t seq, std::uint64_t seed,
           Order order = Order::shuffled, std::string_view what = "training");

    std::int64_t batch() const { return batch_; }
    std::int64_t seq() const { return seq_; }
    /// Windows of `seq` targets in an epoch; they share no target.
    std::int64_t windows() const { return windows_; }

    /// Fills tokens and targets `[last_row - first_row, seq]` with rows [first_row, last_row) of the global
    /// batch of `step`, counted from 0. Targets are the tokens one further on.
    void fill(std::int64_t step, std::int64_t first_row, std::int64_t last_row, std::int32_t* tokens,
              std::int32_t* targets) const;
    /// Where in the text the window of global sample `sample` begins.
    std::int64_t window_begin(std::int64_t sample) const;

  private:
    /// Windows of one piece: `first` is the number of the first one, `room` how far they may be shifted
    /// together.
    struct Run {
        Piece piece;
        std::int64_t first, room;
    };

    Tokens text_;
    std::int64_t batch_, seq_;
    std::uint64_t seed_;
    Order order_;
    std::int64_t windows_ = 0;
    std::vector<Run> runs_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/data/loader-inl.hpp"
#endif
