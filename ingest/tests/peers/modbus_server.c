/* A meter on libmodbus: a peer that shares no code with ours. Unit 1 is an Eastron SDM630 in its input registers and a
 * pulse counter in its holding registers. Says one line when it serves, and serves until it is killed:
 *
 *     modbus_server tcp           Modbus TCP on 127.0.0.1; says the port
 *     modbus_server rtu DEVICE    RTU on a serial line
 */
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fill(modbus_mapping_t *map) {
    const struct { int address; float value; } floats[] = {
        {0x00, 230.25f}, {0x02, 231.5f}, {0x04, 229.75f}, {0x06, 4.125f}, {0x34, 2851.0f},
        {0x3E, 0.96875f}, {0x46, 49.98f}, {0x48, 12345.678f}, {0x4A, 1.5f}, {0x4C, 678.25f},
    };
    /* Not modbus_set_float_abcd: version 3.1.6 swaps bytes on such machines as this. */
    for (size_t at = 0; at < sizeof floats / sizeof *floats; at++) {
        uint32_t bits;
        memcpy(&bits, &floats[at].value, sizeof bits);
        map->tab_input_registers[floats[at].address] = bits >> 16;
        map->tab_input_registers[floats[at].address + 1] = bits & 0xFFFF;
    }
    const uint16_t pulses[] = {0x0001, 0xE240, 3612, 0xFFF4, 0x0011};
    memcpy(map->tab_registers, pulses, sizeof pulses);
}

int main(int count, char **arguments) {
    modbus_mapping_t *map = modbus_mapping_new(0, 0, 0x400, 0x400);
    fill(map);
    int tcp = count == 2 && strcmp(arguments[1], "tcp") == 0;
    modbus_t *line = tcp ? modbus_new_tcp("127.0.0.1", 0) : modbus_new_rtu(arguments[2], 9600, 'N', 8, 1);
    int listening = -1;
    modbus_set_slave(line, tcp ? 0xFF : 1);
    if (tcp) {
        struct sockaddr_in address;
        socklen_t length = sizeof address;
        listening = modbus_tcp_listen(line, 1);
        if (listening < 0 || getsockname(listening, (struct sockaddr *)&address, &length) < 0)
            return perror("listen"), 1;
        printf("%d\n", ntohs(address.sin_port));
    } else {
        if (modbus_connect(line) < 0)
            return perror("open"), 1;
        printf("serves\n");
    }
    fflush(stdout);
    for (;;) {
        if (tcp && modbus_tcp_accept(line, &listening) < 0)
            return perror("accept"), 1;
        for (;;) {
            uint8_t query[MODBUS_MAX_ADU_LENGTH];
            int got = modbus_receive(line, query);
            if (got > 0)
                modbus_reply(line, query, got, map);
            else if (got < 0 && tcp)
                break;
            else if (got < 0)
                usleep(5000);
        }
        modbus_close(line);
    }
}
