# cmake -DFROM=file -DTO=file.h -DNAME=name -P embed.cmake: the bytes of a file as a C++ array, so that
# a test carries them wherever it is taken.
file(READ "${FROM}" bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
file(WRITE "${TO}" "inline constexpr unsigned char ${NAME}[] = {\n${bytes}};\n")
