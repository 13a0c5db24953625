# llama-cpp-python's own CMakeLists forces this on, which triples the build for a library that the binding never loads.
# Included through CMAKE_PROJECT_llama.cpp_INCLUDE when vendor/llama.cpp starts.
set(LLAMA_BUILD_COMMON OFF CACHE BOOL "llama.cpp's helpers for its programs" FORCE)
