#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "plait/core/check.hpp"
#include "plait/core/random.hpp"

namespace plait {

/// 64 bits of some bytes, eight at a time; the same on every little-endian machine.
inline std::uint64_t hash_bytes(std::string_view bytes) {
    constexpr std::uint64_t odd = 0x9e3779b97f4a7c15u;
    auto fold = [](std::uint64_t x) {
        auto wide = static_cast<unsigned __int128>(x ^ 0x2545f4914f6cdd1du) * odd;
        return static_cast<std::uint64_t>(wide) ^ static_cast<std::uint64_t>(wide >> 64);
    };
    std::uint64_t h = bytes.size() * odd, word = 0;
    for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
        std::memcpy(&word, bytes.data(), 8);
        h = fold(h ^ word);
    }
    word = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i)
        word |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    return fold(fold(h ^ word));
}

/// Pairs of numbers to numbers, by open addressing; nothing is taken out.
class PairTable {
  public:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    PairTable() : slots_(1024) {}

    /// The value, or `none`.
    std::uint32_t find(std::uint32_t left, std::uint32_t right) const {
        return slots_[place(left, right)].value;
    }
    /// The value, which is `value` where the pair is new.
    std::uint32_t insert(std::uint32_t left, std::uint32_t right, std::uint32_t value) {
        auto at = place(left, right);
        if (slots_[at].value != none) return slots_[at].value;
        slots_[at] = {left, right, value};
        if (++size_ * 2 > slots_.size()) grow();
        return value;
    }

  private:
    struct Slot {
        std::uint32_t left = 0, right = 0, value = none;
    };

    /// Of the pair, or of the free slot where it belongs.
    std::size_t place(std::uint32_t left, std::uint32_t right) const {
        auto const mask = slots_.size() - 1;
        auto at = mix(std::uint64_t{left} << 32 | right) & mask;
        while (slots_[at].value != none && (slots_[at].left != left || slots_[at].right != right))
            at = (at + 1) & mask;
        return at;
    }
    void grow() {
        auto old = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
        for (auto const& s : old)
            if (s.value != none) slots_[place(s.left, s.right)] = s;
    }

    std::vector<Slot> slots_;
    std::size_t size_ = 0;
};

/// Strings numbered from 0 in the order in which they come.
class PieceTable {
  public:
    PieceTable() : slots_(1024) {}

    std::size_t size() const { return entries_.size(); }
    /// Of all strings together.
    std::size_t bytes() const { return text_.size(); }
    std::string_view operator[](std::size_t number) const {
        auto const& e = entries_[number];
        return {text_.data() + e.begin, e.length};
    }
    /// The number of a string, or PairTable::none.
    std::uint32_t find(std::string_view piece) const {
        auto const& slot = slots_[place(piece, hash_bytes(piece))];
        return slot.number == 0 ? PairTable::none : slot.number - 1;
    }
    /// The number of a string, and whether it is new.
    std::pair<std::uint32_t, bool> insert(std::string_view piece) {
        auto const hash = hash_bytes(piece);
        auto at = place(piece, hash);
        if (slots_[at].number != 0) return {slots_[at].number - 1, false};
        check(piece.size() < ~std::uint32_t{0} && entries_.size() < ~std::uint32_t{0} - 1,
              "a piece of text of {} bytes, or more than 2^32 of them, cannot be counted", piece.size());
        entries_.push_back({text_.size(), static_cast<std::uint32_t>(piece.size()), hash});
        text_.insert(text_.end(), piece.begin(), piece.end());
        auto const number = static_cast<std::uint32_t>(entries_.size());
        slots_[at] = {static_cast<std::uint32_t>(hash >> 32), number};
        if (entries_.size() * 2 > slots_.size()) grow();
        return {number - 1, true};
    }
    void clear() { *this = {}; }

  private:
    struct Entry {
        std::size_t begin;
        std::uint32_t length;
        std::uint64_t hash;
    };
    struct Slot {
        std::uint32_t hash = 0;    // its upper half
        std::uint32_t number = 0;  // + 1; 0: free
    };

    std::size_t place(std::string_view piece, std::uint64_t hash) const {
        auto const mask = slots_.size() - 1;
        auto at = hash & mask;
        while (slots_[at].number != 0 &&
               (slots_[at].hash != hash >> 32 || (*this)[slots_[at].number - 1] != piece))
            at = (at + 1) & mask;
        return at;
    }
    void grow() {
        std::vector<Slot> slots(slots_.size() * 2);
        auto const mask = slots.size() - 1;
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            auto at = entries_[i].hash & mask;
            while (slots[at].number != 0) at = (at + 1) & mask;
            slots[at] = {static_cast<std::uint32_t>(entries_[i].hash >> 32),
                         static_cast<std::uint32_t>(i + 1)};
        }
        slots_ = std::move(slots);
    }

    std::vector<Slot> slots_;
    std::vector<Entry> entries_;
    std::vector<char> text_;
};

}  // namespace plait
