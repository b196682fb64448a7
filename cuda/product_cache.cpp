#include "cuda/product_cache.hpp"

#include <fmt/core.h>

#include <cctype>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include <unistd.h>

namespace plait::cuda {
namespace {

constexpr std::string_view first_line = "plait products 1";

/// Eight numbers of 16 hex digits with a space before each.
std::optional<ProductCache::Algorithm> parse(std::string_view text) {
    ProductCache::Algorithm words{};
    for (auto& word : words) {
        if (text.size() < 17 || text[0] != ' ') return {};
        auto const* end = text.data() + 17;
        auto [stopped, error] = std::from_chars(text.data() + 1, end, word, 16);
        if (error != std::errc{} || stopped != end) return {};
        text.remove_prefix(17);
    }
    if (!text.empty()) return {};
    return words;
}

std::map<std::string, ProductCache::Algorithm> read(std::filesystem::path const& file) {
    std::map<std::string, ProductCache::Algorithm> known;
    std::ifstream in(file);
    std::string line;
    if (!std::getline(in, line) || line != first_line) return known;
    while (std::getline(in, line)) {
        auto colon = line.find(':');
        if (colon == std::string::npos) continue;
        if (auto words = parse(std::string_view(line).substr(colon + 1)))
            known[line.substr(0, colon)] = *words;
    }
    return known;
}

}  // namespace

ProductCache::ProductCache(std::filesystem::path file) : file_(std::move(file)) {
    if (!file_.empty()) known_ = read(file_);
}

std::filesystem::path ProductCache::file_for(std::string_view gpu, std::size_t version) {
    auto const *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
    std::filesystem::path folder;
    // Of that variable a path that is not absolute is to be ignored.
    if (cache && *cache == '/') folder = cache;
    else if (home && *home == '/') folder = std::filesystem::path(home) / ".cache";
    else return {};
    auto name = fmt::format("products-{}-{}", version, gpu);
    for (auto& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-') c = '_';
    return folder / "plait" / name;
}

std::optional<ProductCache::Algorithm> ProductCache::find(std::string const& shape) const {
    auto it = known_.find(shape);
    if (it == known_.end()) return {};
    return it->second;
}

void ProductCache::put(std::string const& shape, Algorithm const& algorithm) {
    known_[shape] = algorithm;
    if (file_.empty()) return;
    auto merged = read(file_);
    for (auto const& [key, words] : known_) merged[key] = words;
    std::error_code error;
    std::filesystem::create_directories(file_.parent_path(), error);
    auto aside = file_;
    aside += fmt::format(".{}.new", ::getpid());
    std::ofstream out(aside);
    out << first_line << '\n';
    for (auto const& [key, words] : merged) {
        out << key << ':';
        for (auto word : words) out << fmt::format(" {:016x}", word);
        out << '\n';
    }
    out.close();
    if (out) std::filesystem::rename(aside, file_, error);
    if (!out || error) std::filesystem::remove(aside, error);
}

}  // namespace plait::cuda
