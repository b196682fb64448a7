# MPI as OpenMPI::OpenMPI. Only its C interface is used, but the project has no C, so it is found for C++.
set(MPI_CXX_SKIP_MPICXX ON)
find_package(MPI QUIET COMPONENTS CXX)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OpenMPI REQUIRED_VARS MPI_CXX_FOUND)
if(OpenMPI_FOUND AND NOT TARGET OpenMPI::OpenMPI)
  add_library(OpenMPI::OpenMPI INTERFACE IMPORTED)
  set_target_properties(OpenMPI::OpenMPI PROPERTIES INTERFACE_LINK_LIBRARIES MPI::MPI_CXX)
endif()
