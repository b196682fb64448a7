#pragma once

#include "plait/data/tokenizer.hpp"
#include "scratch.hpp"

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

/// The project's own sources and pages, as text to tokenize.
inline std::string sample_text() {
    std::vector<std::filesystem::path> files;
    for (auto const* folder : {"include/plait/core", "include/plait/graph", "docs"})
        for (auto const& e :
             std::filesystem::recursive_directory_iterator(std::filesystem::path(SOURCE_DIR) / folder))
            if (e.is_regular_file()) files.push_back(e.path());
    std::sort(files.begin(), files.end());
    std::string text;
    for (auto const& f : files) text += get_text(f);
    return text;
}

inline plait::Tokenizer sample_tokenizer(std::int64_t vocabulary) {
    plait::Splitter splitter{std::string(plait::gpt4_pattern)};
    plait::PieceCounter counter(splitter);
    auto const text = sample_text();
    counter.add(text);
    return plait::train_tokenizer(counter.pieces(), vocabulary);
}

inline std::string random_bytes(std::mt19937& random, std::size_t longest) {
    std::string s(random() % longest, ' ');
    for (auto& c : s) c = static_cast<char>(random());
    return s;
}

/// Characters of many scripts and kinds that Unicode 14 knows, so that every property table agrees on them.
inline std::string random_unicode(std::mt19937& random, std::size_t longest) {
    struct Range {
        char32_t first, last;
    };
    static constexpr Range ranges[] = {
        {' ', '~'},         {' ', '~'},          {'\t', '\r'},       {0, 0x1f},          {0x80, 0x17f},
        {0x2b0, 0x36f},     {0x370, 0x377},      {0x400, 0x52f},     {0x5d0, 0x5ea},     {0x620, 0x669},
        {0x905, 0x96f},     {0xe01, 0xe3a},      {0x1680, 0x169c},   {0x180a, 0x180f},   {0x2000, 0x206f},
        {0x2070, 0x2071},   {0x20a0, 0x20c0},    {0x2100, 0x218b},   {0x2460, 0x24ff},   {0x3000, 0x303f},
        {0x3041, 0x3096},   {0x4e00, 0x9fff},    {0xac00, 0xd7a3},   {0xe000, 0xe010},   {0xfb00, 0xfb06},
        {0xff10, 0xff5a},   {0x10400, 0x1044f},  {0x1d400, 0x1d454}, {0x1d7ce, 0x1d7ff}, {0x1f600, 0x1f64f},
        {0x20000, 0x2a6df}, {0x10fff0, 0x10ffff}};
    static constexpr char const* phrases[] = {"'s", "'S",   "'\xc5\xbf", "'re",    "'VE", "'ll",
                                              "'t", "  \n", "\r\n",      "123456", "   "};
    std::string s;
    auto const size = random() % longest;
    while (s.size() < size) {
        if (random() % 8 == 0) {
            s += phrases[random() % std::size(phrases)];
            continue;
        }
        auto const r = ranges[random() % std::size(ranges)];
        // Runs of one kind, so that pieces are longer than a character.
        for (auto n = 1 + random() % 5; n > 0; --n) {
            auto const c = r.first + static_cast<char32_t>(random() % (r.last - r.first + 1));
            auto put = [&](char32_t x) { s += static_cast<char>(x); };
            if (c < 0x80) put(c);
            else if (c < 0x800) put(0xc0 | c >> 6), put(0x80 | (c & 0x3f));
            else if (c < 0x10000) put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
            else
                put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 0x3f)), put(0x80 | (c >> 6 & 0x3f)),
                    put(0x80 | (c & 0x3f));
        }
    }
    return s;
}
