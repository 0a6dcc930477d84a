"""Converters by family of operators; each module registers its own (`plugin_autogen.lowering.registry.converter`)."""
