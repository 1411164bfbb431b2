"""Published simulators and their protocols, played against a served policy; no JAX is needed."""
