"""XLA compiles without LLVM's costly optimizations: what tests compile runs once."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
