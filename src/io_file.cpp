#include "plait/io/file-inl.hpp"
