# oneDNN as OneDNN::OneDNN. Its own dnnl-config.cmake is not used: Debian's insists on OpenCL.
# Plait sets oneDNN's thread count through OpenMP, so the runtime (not the compiler flag: Eigen would start to
# use it) belongs to the target.
find_path(OneDNN_INCLUDE_DIR dnnl.hpp)
find_library(OneDNN_LIBRARY dnnl)
find_package(OpenMP QUIET COMPONENTS CXX)
mark_as_advanced(OneDNN_INCLUDE_DIR OneDNN_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OneDNN REQUIRED_VARS OneDNN_LIBRARY OneDNN_INCLUDE_DIR OpenMP_CXX_FOUND)
if(OneDNN_FOUND AND NOT TARGET OneDNN::OneDNN)
  add_library(OneDNN::OneDNN UNKNOWN IMPORTED)
  set_target_properties(OneDNN::OneDNN PROPERTIES IMPORTED_LOCATION ${OneDNN_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES "${OneDNN_INCLUDE_DIR};${OpenMP_CXX_INCLUDE_DIRS}"
    INTERFACE_LINK_LIBRARIES "${OpenMP_CXX_LIBRARIES}")
endif()
