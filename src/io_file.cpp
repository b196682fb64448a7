#include "plait/io/file-inl.hpp"
#include "plait/io/mapped_file-inl.hpp"
