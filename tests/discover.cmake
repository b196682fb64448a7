# Run after a test executable is linked: writes the CTest file that registers its cases.
# Catch2's own script knows no labels from tags and, in v2, warns when nothing is tagged.
if(catch VERSION_LESS 3)
  set(listing --list-test-names-only)
else()
  set(listing --list-tests --verbosity quiet)
endif()

function(register spec labels limit alone)
  execute_process(COMMAND ${program} ${spec} ${listing} OUTPUT_VARIABLE names RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${program} cannot list its cases: ${result}\n${names}")
  endif()
  string(REPLACE ";" "\\;" names "${names}")
  string(REGEX REPLACE "\n+" ";" names "${names}")
  foreach(name IN LISTS names)
    string(STRIP "${name}" name)
    if(name STREQUAL "")
      continue()
    endif()
    # Catch reads , [ ] and \ in a name as parts of a filter.
    string(REGEX REPLACE "([],\\[])" "\\\\\\1" filter "${name}")
    string(APPEND script "add_test([==[${folder}.${name}]==] [==[${program}]==] [==[${filter}]==])\n"
      "set_tests_properties([==[${folder}.${name}]==] PROPERTIES LABELS \"${labels}\" TIMEOUT ${limit} "
      "SKIP_RETURN_CODE 4 RUN_SERIAL ${alone})\n")
  endforeach()
  set(script "${script}" PARENT_SCOPE)
endfunction()

set(script "")
register("~[.]~[slow]~[alone]" "${folder}" ${seconds} OFF)
# What reads the clock runs with nothing beside it.
register("~[slow][alone]" "${folder}" ${seconds} ON)
math(EXPR slow_seconds "10 * ${seconds}")
register("[slow]" "${folder};slow" ${slow_seconds} OFF)
file(WRITE ${list} "${script}")
