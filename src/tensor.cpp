#include "plait/tensor-inl.hpp"
