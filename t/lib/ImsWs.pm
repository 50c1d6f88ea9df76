package ImsWs;

# A WebSocket client for tests (RFC 6455, RFC 7118): the handshake, masked
# frames, and also every way of doing it wrong.
#
#   my $ws = ImsWs->new(port => port(8080), uri => '/ims/ws',
#                       origin => 'http://localhost');
#   $ws->{status}            # of the handshake: 101, 403, ...
#   $ws->send($text);        my $text = $ws->recv(5);
#   my ($code, $reason) = $ws->closed(5);

use strict;
use warnings;

use Digest::SHA qw/ sha1_base64 /;
use IO::Select;
use IO::Socket::IP;
use ImsWait;
use MIME::Base64 qw/ encode_base64 /;
use Test::Nginx ();
use Time::HiRes qw/ time /;

use constant {
    CONT => 0, TEXT => 1, BINARY => 2, CLOSE => 8, PING => 9, PONG => 10,
    GUID => '258EAFA5-E914-47DA-95CA-C5AB0DC85B11',
};


# Options: host, port, ssl, uri, origin (undef: none), protocol (undef:
# none), version, key, headers (lines), method, http, first (bytes sent
# with the handshake), raw (the whole handshake as text)

sub new {
    my ($class, %o) = @_;

    $o{host} //= '127.0.0.1';
    $o{uri} //= '/ims/ws';
    $o{protocol} = 'sip' unless exists $o{protocol};
    $o{key} //= encode_base64(join('', map { chr rand 256 } 1 .. 16), '');

    my $s = IO::Socket::IP->new(Proto => 'tcp', PeerHost => $o{host},
                                PeerPort => $o{port}, Timeout => 5)
        or die "connect to $o{host}:$o{port}: $!\n";

    if ($o{ssl}) {
        require IO::Socket::SSL;
        IO::Socket::SSL->start_SSL($s, SSL_verify_mode => 0)
            or die "TLS: $IO::Socket::SSL::SSL_ERROR\n";
    }

    my $self = bless { s => $s, buf => '', whole => '', %o }, $class;

    $self->_handshake();

    return $self;
}


sub _handshake {
    my ($self) = @_;

    my $request = $self->{raw} // join("\r\n",
        ($self->{method} // 'GET') . " $self->{uri} "
            . ($self->{http} // 'HTTP/1.1'),
        'Host: ' . ($self->{http_host} // "localhost:$self->{port}"),
        'Upgrade: websocket',
        'Connection: Upgrade',
        'Sec-WebSocket-Version: ' . ($self->{version} // 13),
        "Sec-WebSocket-Key: $self->{key}",
        (defined $self->{protocol}
            ? "Sec-WebSocket-Protocol: $self->{protocol}" : ()),
        (defined $self->{origin} ? "Origin: $self->{origin}" : ()),
        @{$self->{headers} // []}, '', '');

    $self->write($request . ($self->{first} // ''));

    my $end = time() + 8;

    until ($self->{buf} =~ /\r\n\r\n/) {
        last unless $self->_fill($end);
    }

    $self->{buf} =~ s/^(.*?\r\n\r\n)//s or return;

    $self->{response} = $1;
    Test::Nginx::log_in($1);

    ($self->{status}) = $self->{response} =~ m{^HTTP/1\.\d (\d+)};
    ($self->{accept}) =
        $self->{response} =~ /^Sec-WebSocket-Accept:\s*(\S+)/mi;
    ($self->{chosen}) =
        $self->{response} =~ /^Sec-WebSocket-Protocol:\s*(\S+)/mi;

    $self->{accepted} = ($self->{accept} // '')
        eq sha1_base64($self->{key} . GUID) . '=';
}


# bytes as they are

sub write {
    my ($self, $bytes) = @_;

    local $SIG{PIPE} = 'IGNORE';

    while (length $bytes) {
        my $n = $self->{s}->syswrite($bytes) or return 0;
        substr($bytes, 0, $n, '');
    }

    return 1;
}


# one frame; %o: opcode, fin, mask (0: none), rsv, length (announced)

sub frame {
    my ($self, $payload, %o) = @_;

    my $masked = $o{mask} // 1;
    my $length = $o{length} // length $payload;
    my $head = pack 'C', (($o{fin} // 1) << 7) | (($o{rsv} // 0) << 4)
                         | ($o{opcode} // TEXT);
    my $bit = $masked ? 0x80 : 0;

    $head .= $length < 126 ? pack('C', $bit | $length)
        : $length < 65536 ? pack('Cn', $bit | 126, $length)
        : pack('CQ>', $bit | 127, $length);

    return $head . $payload unless $masked;

    my $key = pack 'N', int rand 2 ** 32;
    my $mask = substr $key x (length($payload) / 4 + 1), 0, length $payload;

    return $head . $key . ($payload ^ $mask);
}


sub send {
    my ($self, $payload, %o) = @_;

    Test::Nginx::log_out($payload);

    return $self->write($self->frame($payload, %o));
}


sub ping {
    my ($self, $payload) = @_;

    return $self->send($payload // '', opcode => PING);
}


# the next message; undef at the end of the time or of the connection.
# Pings are answered, and a Close too (then see closed()).

sub recv {
    my ($self, $seconds) = @_;

    return $self->_recv(time() + patience($seconds // 5));
}


sub _recv {
    my ($self, $end) = @_;

    while (!$self->{close}) {
        my $f = $self->_next($end) or return undef;

        if ($f->{opcode} == PING) {
            push @{$self->{pings}}, $f->{payload};
            $self->send($f->{payload}, opcode => PONG)
                unless $self->{mute};

        } elsif ($f->{opcode} == PONG) {
            push @{$self->{pongs}}, $f->{payload};

        } elsif ($f->{opcode} == CLOSE) {
            my ($code, $reason) = unpack 'na*', $f->{payload};
            $self->{close} = [$code // 1005, $reason // ''];
            $self->send($f->{payload}, opcode => CLOSE)
                unless $self->{closing};

        } else {
            $self->{whole} .= $f->{payload};
            next unless $f->{fin};

            my $message = $self->{whole};
            $self->{whole} = '';
            Test::Nginx::log_in($message);

            return $message;
        }
    }

    return undef;
}


# the next pong's payload

sub pong {
    my ($self, $seconds) = @_;

    my $end = time() + patience($seconds // 5);
    my @kept;

    until (@{$self->{pongs} //= []}) {
        my $f = $self->_next($end) or return undef;
        if ($f->{opcode} == PONG) {
            push @{$self->{pongs}}, $f->{payload};
        }
    }

    return shift @{$self->{pongs}};
}


# (code, reason) of the Close that came; (1006, '') if the connection ended
# without one; () if neither happens in the time

sub closed {
    my ($self, $seconds) = @_;

    my $end = time() + patience($seconds // 5);

    while (!$self->{close} && !$self->{eof} && time() < $end) {
        $self->_recv($end);
    }

    return @{$self->{close}} if $self->{close};
    return (1006, '') if $self->{eof};
    return ();
}


sub close {
    my ($self, $code, $reason) = @_;

    $self->{closing} = 1;
    $self->send(pack('na*', $code // 1000, $reason // ''), opcode => CLOSE);

    return $self->closed(5);
}


# as if the network had gone: RST instead of a good-bye

sub drop {
    my ($self) = @_;

    setsockopt $self->{s}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    CORE::close $self->{s};
}


sub _next {
    my ($self, $end) = @_;

    while (1) {
        my $f = $self->_cut();
        return $f if $f;
        return undef unless $self->_fill($end);
    }
}


sub _cut {
    my ($self) = @_;

    my $have = length $self->{buf};

    return undef if $have < 2;

    my ($first, $second) = unpack 'CC', $self->{buf};
    my ($length, $head) = ($second & 0x7f, 2);

    if ($length == 126) {
        return undef if $have < 4;
        ($length, $head) = (unpack('x2n', $self->{buf}), 4);

    } elsif ($length == 127) {
        return undef if $have < 10;
        ($length, $head) = (unpack('x2Q>', $self->{buf}), 10);
    }

    die "a server's frame must not be masked\n" if $second & 0x80;

    return undef if $have < $head + $length;

    substr($self->{buf}, 0, $head, '');

    return { fin => $first >> 7, opcode => $first & 15,
             payload => substr($self->{buf}, 0, $length, '') };
}


sub _fill {
    my ($self, $end) = @_;

    my $s = $self->{s};
    my $pending = $self->{ssl} ? $s->pending() : 0;

    while (!$self->{eof}) {
        my $left = $end - time();

        if (!$pending) {
            return 0 if $left <= 0;
            return 0 unless IO::Select->new($s)->can_read($left);
        }

        my $n = $s->sysread($self->{buf}, 65536, length $self->{buf});

        return 1 if $n;
        next if !defined $n && ($!{EAGAIN} || $!{EINTR});

        $self->{eof} = 1;
    }

    return 0;
}


1;
