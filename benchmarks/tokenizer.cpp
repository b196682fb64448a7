// Learning and encoding on one thread: tokenizer FILE VOCABULARY OUT writes OUT, a tokenizer.json, and prints
// one JSON line with the keys of peers/tokenizers_run.py.
#include "plait/data/tokenizer.hpp"
#include "plait/io/file.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

using namespace plait;

namespace {

constexpr std::size_t document = 20'000;  // bytes

double timed(auto&& f) {
    auto const start = std::chrono::steady_clock::now();
    f();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class F>
void for_each_document(std::string_view text, F&& f) {
    for (std::size_t at = 0; at < text.size(); at += document) f(text.substr(at, document));
}

void run(std::string const& file, std::int64_t vocabulary, std::string const& out) {
    auto const text = read_file(file);
    auto const megabytes = static_cast<double>(text.size()) / 1e6;
    Splitter const splitter{std::string(gpt4_pattern)};
    std::string json;
    PieceCounter counter(splitter);
    auto const counting = timed([&] { for_each_document(text, [&](auto d) { counter.add(d); }); });
    auto const learning = timed([&] { json = train_tokenizer(counter.pieces(), vocabulary).json(); });
    write_file_atomically(out, json);
    auto const tokenizer = Tokenizer::load(out);
    std::vector<std::uint32_t> tokens;
    auto encoding = 1e9;
    for (int i = 0; i < 3; ++i) {
        tokens.clear();
        Encoder encoder(tokenizer);
        encoding = std::min(
            encoding, timed([&] { for_each_document(text, [&](auto d) { encoder.encode(d, tokens); }); }));
    }
    fmt::print(
        "{{\"peer\": \"plait\", \"megabytes\": {:.1f}, \"count_s\": {:.2f}, \"learn_s\": {:.2f}, "
        "\"encode_mb_per_s\": {:.1f}, \"tokens\": {}}}\n",
        megabytes, counting, learning, megabytes / encoding, tokens.size());
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        fmt::print(stderr, "usage: tokenizer FILE VOCABULARY OUT\n");
        return 2;
    }
    try {
        run(argv[1], std::atoll(argv[2]), argv[3]);
        return 0;
    } catch (std::exception const& e) {
        fmt::print(stderr, "tokenizer: {}\n", e.what());
        return 1;
    }
}
