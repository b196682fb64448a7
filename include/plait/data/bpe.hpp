#pragma once

#include "plait/core/inline.hpp"
#include "plait/data/hash_tables.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace plait {

/// Two neighbouring tokens that become one.
struct Merge {
    std::uint32_t left, right, result;
    bool operator==(Merge const&) const = default;
};

/// Byte-level byte-pair encoding: tokens as strings of bytes, and merges in the order in which they are
/// applied. Sennrich et al., "Neural machine translation of rare words with subword units", 2016.
struct BytePairs {
    std::vector<std::string> tokens;  // by id; an id without a token has an empty one
    std::vector<Merge> merges;
};

/// A piece of text within which tokens merge, and how often it occurs.
struct CountedPiece {
    std::string_view bytes;
    std::int64_t count;
};

/// Learns up to `vocabulary` tokens, the first 256 of which are the bytes in order. Each merge takes the pair
/// with the highest count, among equals that with the lowest ids (left first), so the result depends on the
/// pieces and their counts alone, not on their order. It ends early when no pair occurs twice. Throws
/// UsageError for a vocabulary below 256 and for pieces of 4 GiB and more.
BytePairs learn_merges(std::span<CountedPiece const> pieces, std::int64_t vocabulary);

/// Merges within one piece: always the pair of the lowest rank, the leftmost one first.
class PieceMerger {
  public:
    /// Every byte must be a token; `pairs` must outlive the merger.
    explicit PieceMerger(BytePairs const& pairs);

    /// Scratch of one thread, which may be used again.
    struct Scratch {
        struct Symbol {
            std::uint32_t id;
            std::int32_t previous, next;  // -1: none
        };
        std::vector<Symbol> symbols;
        std::vector<std::uint64_t> heap;  // rank << 32 | position
    };
    /// Appends the tokens of `piece`, which must be shorter than 2 GiB.
    void merge(std::string_view piece, Scratch& scratch, std::vector<std::uint32_t>& tokens) const;

  private:
    BytePairs const& pairs_;
    std::vector<std::uint32_t> of_byte_;
    PairTable ranks_;
};

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/data/bpe-inl.hpp"
#endif
