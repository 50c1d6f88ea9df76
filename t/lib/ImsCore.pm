package ImsCore;

# A core that does what a test tells it, for all that cannot be had from a
# real one: late, lost, doubled or wrong answers, links that close, answers
# over another connection. It runs inside the test: nothing happens between
# its calls.
#
#   my $core = ImsCore->new(port(8061));
#   my ($m, $link) = $core->request(5);          # parsed, see ImsSip
#   $core->reply($link, $m, 200, 'OK', extra => ['Service-Route: <...>']);
#   my $other = $core->connect(port(8070));      # to the edge's ims_listen
#   $other->print($text);  $core->close($link);
#
# With udp => 1 it takes datagrams at the same port as well.  The link of one
# is where it came from: answers go there, or what a test sends to it;
# datagrams(PORT) is the link to a port of the edge's.
#
# While $core->{answers} names a method, requests of it are answered 200 and not
# told: for probes, which come whenever they come.
#
# With once => 1, or while $core->{once} is set, a request that comes again by
# UDP is answered as before and not told again (RFC 3261 17.2): on a busy
# machine any may.
#
# With tls => { options of IO::Socket::SSL } it takes connections over TLS;
# connect(PORT, options) opens one.  One that fails is kept as the last error:
# $core->{tls_error}.

use strict;
use warnings;

use IO::Select;
use IO::Socket::IP;
use ImsSip;
use ImsWait;
use Socket qw/ getaddrinfo AI_NUMERICHOST SOCK_DGRAM /;
use Test::Nginx ();
use Time::HiRes qw/ time /;


# %o: host (127.0.0.1, or ::1), tls, udp, once

sub new {
    my ($class, $port, %o) = @_;

    my $host = $o{host} // '127.0.0.1';

    my $listen = IO::Socket::IP->new(
        Proto => 'tcp', LocalHost => $host, LocalPort => $port, Listen => 64,
        ReuseAddr => 1) or die "listen on $host $port: $!\n";

    my $self = bless { listen => $listen, buf => {}, queue => [],
                       port => $port, host => $host, tls => $o{tls},
                       once => $o{once}, told => {}, accepted => 0,
                       sel => IO::Select->new($listen) }, $class;

    if ($o{udp}) {
        $self->{udp} = udp_socket($host, $port);
        $self->{sel}->add($self->{udp});
    }

    return $self;
}


# The harness holds the other protocol's socket at each of its ports, so that
# nobody else takes them: that is the one.

sub udp_socket {
    my ($host, $port) = @_;

    if ($host eq '127.0.0.1') {
        for my $number (8060 .. 8069) {
            return Test::Nginx::port($number, socket => 1)
                if Test::Nginx::port($number) == $port;
        }
    }

    return IO::Socket::IP->new(Proto => 'udp', LocalHost => $host,
        LocalPort => $port) // die "UDP $host $port: $!\n";
}


# the next whole message of any link: (message, link), or () in time

sub request {
    my ($self, $seconds) = @_;

    return $self->_request(time() + patience($seconds // 5));
}


sub _request {
    my ($self, $end) = @_;

    while (1) {
        while (my $got = shift @{$self->{queue}}) {
            my ($m, $link) = @$got;

            return @$got if ($m->{method} // '') ne ($self->{answers} // '-');
            $self->reply($link, $m, 200, 'OK');
        }

        my $left = $end - time();
        return () if $left <= 0;

        for my $s ($self->{sel}->can_read($left)) {
            $s == $self->{listen} ? $self->_accept()
                : $s == ($self->{udp} // 0) ? $self->_datagram()
                : $self->_read($s);
        }
    }
}


# true if nothing comes for a while

sub silent {
    my ($self, $seconds) = @_;

    my @got = $self->_request(time() + ($seconds // 0.5));

    unshift @{$self->{queue}}, \@got if @got;

    return !@got;
}


sub reply {
    my ($self, $link, $m, $status, $reason, %o) = @_;

    return $self->send($link, sip_reply($m, $status, $reason, %o));
}


sub send {
    my ($self, $link, $text) = @_;

    local $SIG{PIPE} = 'IGNORE';

    Test::Nginx::log_out($text);

    if ($self->{once} && $text =~ m{^SIP/2.0 [1-6]}) {
        $self->{told}{_transaction(sip_parse($text))} = $text;
    }

    return CORE::send($link->{socket}, $text, 0, $link->{to})
        if ref $link eq 'ImsCore::Datagrams';

    # TLS takes a record at a time

    for (my $done = 0; $done < length $text; ) {
        my $n = $link->syswrite($text, length($text) - $done, $done);
        return undef unless $n;
        $done += $n;
    }

    return length $text;
}


sub connect {
    my ($self, $port, %tls) = @_;

    my $s = IO::Socket::IP->new(Proto => 'tcp', PeerPort => $port,
                                PeerHost => $self->{host})
        or die "connect to the edge at $port: $!\n";

    if (%tls) {
        require IO::Socket::SSL;
        IO::Socket::SSL->start_SSL($s, Timeout => 5, %tls) or return undef;
    }

    $self->{buf}{$s} = '';
    $self->{sel}->add($s);

    return $s;
}


# %o: socket, another one than the core's own

sub datagrams {
    my ($self, $port, %o) = @_;

    my ($error, $to) = getaddrinfo($self->{host}, $port,
        { socktype => SOCK_DGRAM, flags => AI_NUMERICHOST });
    die "$error\n" if $error;

    return bless { socket => $o{socket} // $self->{udp}, to => $to->{addr} },
        'ImsCore::Datagrams';
}


sub close {
    my ($self, $link) = @_;

    $self->{sel}->remove($link);
    delete $self->{buf}{$link};
    CORE::close $link;
}


# no more connections are taken; those there stay

sub deaf {
    my ($self) = @_;

    $self->{sel}->remove($self->{listen});
    CORE::close $self->{listen};
}


sub links {
    my ($self) = @_;

    return grep { $_ != $self->{listen} && $_ != ($self->{udp} // 0) }
        $self->{sel}->handles();
}


# one datagram is one message

sub _datagram {
    my ($self) = @_;

    my $from = $self->{udp}->recv(my $text, 65536) // return;

    Test::Nginx::log_in($text);

    my $m = sip_parse($text);
    my $link = bless { socket => $self->{udp}, to => $from },
        'ImsCore::Datagrams';

    return if $self->{once} && $self->_again($m, $link);

    push @{$self->{queue}}, [$m, $link];
}


# true for a request that was told before; its answer, if there is one, goes
# out once more

sub _again {
    my ($self, $m, $link) = @_;

    return 0 if !$m || $m->{status} || $m->{method} eq 'ACK';

    my $told = $self->{told};
    my $id = _transaction($m);
    my $again = exists $told->{$id};

    $self->send($link, $told->{$id}) if $told->{$id};
    $told->{$id} //= '';

    return $again;
}


sub _transaction {
    my ($m) = @_;

    my ($branch) = (sip_headers($m, 'Via'))[0] =~ /branch=([^;\s]+)/;
    my ($method) = sip_header($m, 'CSeq') =~ /(\w+)$/;

    return "$branch $method";
}


sub _accept {
    my ($self) = @_;

    my $s = $self->{listen}->accept() or return;

    if ($self->{tls}) {
        require IO::Socket::SSL;

        if (!IO::Socket::SSL->start_SSL($s, SSL_server => 1, Timeout => 5,
                                        %{$self->{tls}}))
        {
            $self->{tls_error} = "$IO::Socket::SSL::SSL_ERROR";
            CORE::close $s;
            return;
        }
    }

    $self->{accepted}++;
    $self->{buf}{$s} = '';
    $self->{sel}->add($s);
}


sub _read {
    my ($self, $s) = @_;

    my $n = $s->sysread($self->{buf}{$s}, 65536, length $self->{buf}{$s});

    # what TLS has read ahead does not make the socket readable

    while ($n && $s->can('pending') && $s->pending()) {
        last unless $s->sysread($self->{buf}{$s}, 65536,
                                length $self->{buf}{$s});
    }

    if (!$n) {
        $self->close($s);
        return;
    }

    while (defined(my $text = sip_frame(\$self->{buf}{$s}))) {
        Test::Nginx::log_in($text);
        push @{$self->{queue}}, [sip_parse($text), $s];
    }
}


1;
