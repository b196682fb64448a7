#include "text_stream.hpp"

#include <algorithm>

namespace plait::tools {

std::size_t unfinished_bytes(std::string_view text) {
    for (std::size_t n = 1; n <= std::min<std::size_t>(3, text.size()); ++n) {
        auto byte = static_cast<unsigned char>(text[text.size() - n]);
        if (byte < 0x80) return 0;
        if (byte < 0xc0) continue;  // inside a character
        std::size_t length = byte >= 0xf5 ? 0 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 0;
        return length > n ? n : 0;
    }
    return 0;
}

bool TextStream::add(std::string_view piece) {
    // The string may have begun in what came before, but not have ended there.
    auto from = text_.size() - std::min(text_.size(), stop_.empty() ? 0 : stop_.size() - 1);
    text_ += piece;
    if (stop_.empty()) return true;
    if (auto at = text_.find(stop_, from); at != std::string::npos) {
        text_.resize(at);
        ended_ = true;
    }
    return !ended_;
}

std::string TextStream::take_until(std::size_t end) {
    auto piece = text_.substr(shown_, end - shown_);
    shown_ = end;
    return piece;
}

std::string TextStream::take() {
    if (ended_) return take_rest();
    auto end = text_.size();
    // The longest end of the text with which the string may begin.
    for (auto n = std::min(end, stop_.empty() ? 0 : stop_.size() - 1); n > 0; --n)
        if (std::string_view(text_).ends_with(std::string_view(stop_).substr(0, n))) {
            end -= n;
            break;
        }
    end -= unfinished_bytes(std::string_view(text_).substr(0, end));
    return take_until(std::max(end, shown_));
}

std::string TextStream::take_rest() { return take_until(text_.size()); }

}  // namespace plait::tools
