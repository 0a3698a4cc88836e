"""3-D models: STL, OBJ, PLY, OFF, glTF and 3MF, drawn without a graphics card and without a display."""
