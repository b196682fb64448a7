// A second unit: a header-only function that is not inline would be defined twice.
#include <plait/plait.hpp>

int second() { return static_cast<int>(bytes_of(plait::DType::f32, 1)); }
